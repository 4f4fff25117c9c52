"""The dria engine loses nothing, whatever nodes and the RPC do."""

import asyncio
import base64
import json

import pytest

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.engine import EngineError, EngineRefused, PairRefused, Transient
from magpie_cli.errors import NotFinished
from magpie_cli.records import Dialogue
from tests.dria_engine import TOKEN, Connected, Says, connected, kinds, request, until
from tests.processes import PATIENCE

FAULTS = {
    "errors": DevnetOptions(port=0, nodes=20, error_rate=0.3),
    "lost": DevnetOptions(port=0, nodes=20, lost_rate=0.05),
    "duplicated": DevnetOptions(port=0, nodes=20, duplicate_rate=0.1),
    "RPC errors": DevnetOptions(port=0, nodes=20, rpc_error_rate=0.2),
}
ALL_OF_IT = DevnetOptions(
    port=0, nodes=20, error_rate=0.3, lost_rate=0.05, duplicate_rate=0.1, rpc_error_rate=0.2
)


@pytest.mark.parametrize("options", [*FAULTS.values(), ALL_OF_IT], ids=[*FAULTS, "all of it"])
async def test_every_dialogue_is_made_in_spite_of(options: DevnetOptions) -> None:
    """Of 100 dialogues each has its own words, or six attempts behind it."""
    async with connected(options, timeout=2 if options.lost_rate else 30) as on:
        outcomes = await on.make(100)
        counts = on.devnet.counts
    made = [each for each in outcomes if isinstance(each, Dialogue)]
    failed = [each for each in outcomes if isinstance(each, EngineError)]
    assert len(made) >= 95
    assert len({dialogue.turns for dialogue in made}) == len(made)
    assert {error.attempts for error in failed} <= {6}
    assert bool(counts.errors) == (options.error_rate > 0)
    assert bool(counts.lost) == (options.lost_rate > 0)
    assert bool(counts.duplicated) == (options.duplicate_rate > 0)
    faults = {
        "node_error": options.error_rate,
        "timeout": options.lost_rate,
        "http_500": options.rpc_error_rate,
    }
    expected = {kind for kind, rate in faults.items() if rate}
    assert expected <= kinds(on.retries)


async def test_a_node_that_fails_is_not_asked_again_by_the_same_pair() -> None:
    """Where every node fails, one pair fails at six nodes, and only then for good."""
    async with connected(DevnetOptions(port=0, error_rate=1)) as on:
        (failed,) = await on.make(1)
    assert isinstance(failed, Transient)
    assert (failed.kind, failed.attempts, on.devnet.counts.tasks) == ("node_error", 6, 6)
    said = [*(error.message for error in on.retries), failed.message]
    assert len({message.split()[1] for message in said}) == 6
    assert all("an error, as --error-rate asks" in message for message in said)


async def test_with_one_node_it_is_that_one_again() -> None:
    """A lost answer is asked of the same node again where there is no other."""
    async with connected(DevnetOptions(port=0, nodes=1, lost_rate=0.5, seed=3), timeout=2.0) as on:
        (made,) = await on.make(1)
    assert isinstance(made, Dialogue)
    assert kinds(on.retries) == {"timeout"}
    assert "--timeout" in on.retries[0].message


async def test_an_answer_that_comes_late_still_counts() -> None:
    """Where no node is as fast as --timeout asks, what an earlier attempt wrote is taken."""
    async with connected(DevnetOptions(port=0, nodes=2), Says(seconds=0.2), timeout=0.5) as on:
        (made,) = await on.make(1)
    assert isinstance(made, Dialogue)
    assert kinds(on.retries) == {"timeout"}


async def test_nodes_that_vanish_are_forgotten_and_their_tasks_done_by_others() -> None:
    """No --timeout has to pass until the pairs of a node that is gone are given to another."""
    async with connected(DevnetOptions(port=0, nodes=8, latency=0.2)) as on:
        working = asyncio.create_task(on.make(24))
        await until(lambda: on.devnet.counts.tasks >= 8)
        await on.devnet.remove_nodes(5)
        outcomes = await working
        assert all(isinstance(each, Dialogue) for each in outcomes)
        assert kinds(on.retries) == {"node_gone"}
        assert on.nodes.served() == {MODEL: 3}


async def test_no_nodes_are_waited_for() -> None:
    """Pairs wait for a node, use up no attempt, and are made when one comes."""
    async with connected(DevnetOptions(port=0, nodes=0)) as on:
        working = asyncio.create_task(on.make(5))
        await until(lambda: len(on.retries) >= 40)
        on.devnet.add_nodes(3)
        outcomes = await working
    assert all(isinstance(each, Dialogue) for each in outcomes)
    assert kinds(on.retries) == {"no_nodes"}
    assert f"no node serves {MODEL}: the network has no nodes" in on.retries[0].message


async def test_it_says_what_the_network_serves_instead() -> None:
    """After the patience is over, the run cannot finish now, and the error names what there is."""
    options = DevnetOptions(port=0, nodes=3, models="llama3.2:3b, qwq")
    async with connected(options, patience=0.3) as on:
        (failed,) = await asyncio.gather(on.engine.dialogue(request()), return_exceptions=True)
    assert isinstance(failed, NotFinished)
    assert f"no node serves {MODEL}; the network serves llama3.2:3b (3), qwq (3)" in str(failed)
    assert "--give-up-after" in str(failed.hint)


async def test_a_token_that_expires_refuses_the_run_and_fails_no_pair() -> None:
    """A 401 while pairs are in flight ends them all at once, as EngineRefused."""
    options = DevnetOptions(port=0, latency=60)
    async with connected(options) as on:
        working = asyncio.create_task(on.make(10))
        await until(lambda: on.devnet.counts.tasks)
        object.__setattr__(options, "accept", "another")
        outcomes = await asyncio.wait_for(working, 10)
        outcomes += await on.make(1)
    assert {type(each) for each in outcomes} == {EngineRefused}
    (hint,) = {each.hint for each in outcomes if isinstance(each, EngineRefused)}
    assert "DRIA_RPC_TOKEN" in str(hint)


async def test_a_pair_over_the_payload_limit_is_refused_alone() -> None:
    """Its personas do not fit into a task: it fails at once, with the sizes, and sends nothing."""
    async with connected() as on:
        with pytest.raises(PairRefused, match="262,144") as caught:
            await on.engine.dialogue(request(persona='"' * 120_000))
        assert caught.value.kind == "payload_too_large"
        assert (on.tasks._asked, on.tasks._tasks) == ({}, {})
        assert on.devnet.counts.tasks == 0
        assert isinstance(await on.engine.dialogue(request()), Dialogue)


async def test_thirty_turns_work_and_utterances_are_not_cut() -> None:
    """Nodes get a limit of steps above 2 x turns, and 2,048 tokens for an utterance, not 250."""
    writer = Says()
    async with connected(writer=writer) as on:
        dialogue = await on.engine.dialogue(request(num_turns=30))
    assert len(dialogue.turns) == 30
    assert {sampling.max_tokens for _, sampling in writer.asked} == {2048}


@pytest.mark.parametrize("text", [" ", "\n"])
async def test_an_empty_utterance_is_a_failure_in_the_end(text: str) -> None:
    """It is tried again, and then the pair fails: no row has an empty utterance."""
    async with connected(writer=Says(text)) as on:
        (failed,) = await on.make(1)
    assert isinstance(failed, Transient)
    assert (failed.kind, failed.attempts) == ("empty_reply", 6)


@pytest.mark.parametrize(
    ("persona", "words"),
    [
        ("A tester of {chat} and {persona}", "A tester of { chat } and {persona}"),
        ("chat", "{ chat }"),
        ("x {chat", "x { chat }"),
        ("chat} y", "{ chat } y"),
    ],
)
async def test_a_persona_that_looks_like_a_placeholder_stays_a_persona(
    persona: str, words: str
) -> None:
    """Nodes fill `{chat}` wherever they find it: in a persona it reaches the model with spaces."""
    writer = Says("SECRET")
    async with connected(writer=writer) as on:
        await on.engine.dialogue(request(num_turns=1, persona=persona))
    asked = [messages[0]["content"] for messages, _ in writer.asked]
    assert all(words in prompt for prompt in asked)
    assert asked[1].count("SECRET") == 1


async def test_another_run_with_the_same_token_is_named() -> None:
    """Each run takes the other's answers away: whoever loses one is told what to look for."""
    async with connected(DevnetOptions(port=0, lost_rate=0.0), timeout=0.6) as on:
        taken = asyncio.create_task(_take_answers(on))
        await asyncio.gather(on.engine.dialogue(request()), return_exceptions=True)
        taken.cancel()
    assert any("does one use the same token now?" in error.message for error in on.retries)


async def _take_answers(on: Connected) -> None:
    """What another run does: it reads our answers, and leaves us its own."""
    while True:
        if await on.rpc.answers():
            task = '{"taskId": "another-run--x"}'
            message = base64.b64encode(task.encode()).decode()
            stranger = {"message": message, "signature": "00" * 64, "recovery_id": 0}
            on.devnet._publish(TOKEN, json.dumps(stranger))
            return
        await asyncio.sleep(0.005)


async def test_nothing_is_kept_of_what_is_done() -> None:
    """After a thousand dialogues, duplicates and late errors, no task and no pair is remembered."""
    options = DevnetOptions(port=0, nodes=64, duplicate_rate=0.2, error_rate=0.05)
    async with connected(options) as on:
        outcomes = await on.make(1000, num_turns=1)
        assert all(isinstance(each, Dialogue) for each in outcomes)
        assert (on.tasks._asked, on.tasks._tasks) == ({}, {})
        assert {node.in_flight for node in on.nodes._nodes.values()} == {0}


@pytest.mark.parametrize("way", ["a node is free", "the run is stopped"])
async def test_a_late_answer_ends_the_wait_for_a_node(way: str) -> None:
    """An answer that comes while its dialogue waits for its next turn is taken; no task is sent."""
    writer = Says(seconds=0.2)
    async with connected(DevnetOptions(port=0, nodes=1), writer, timeout=0.3) as on:
        working = asyncio.create_task(on.engine.dialogue(request(num_turns=1)))
        await until(lambda: on.devnet.counts.tasks)
        taken = [await on.nodes.take(MODEL, ()) for _ in range(2)]
        next_one = asyncio.create_task(on.nodes.take(MODEL, ()))
        await until(lambda: on.tasks._asked["pair-0"].answer)
        assert kinds(on.retries) == {"timeout"}
        assert next_one.done()
        assert not working.done()
        if way == "a node is free":
            on.nodes.give_back(taken[0], worked=None)
        else:
            on.pace.stop()
        assert isinstance(await asyncio.wait_for(working, PATIENCE), Dialogue)
        assert on.devnet.counts.tasks == 1


async def test_a_run_that_is_stopped_finishes_what_is_at_a_node() -> None:
    """The three tasks that a node has are made, and what waits for a turn there ends at once."""
    async with connected(DevnetOptions(port=0, nodes=1), Says(seconds=0.05)) as on:
        working = [asyncio.create_task(on.engine.dialogue(request(n, 1))) for n in range(8)]
        await until(lambda: on.devnet.counts.tasks)
        on.pace.stop()
        outcomes = await asyncio.gather(*working, return_exceptions=True)
        assert [type(each) for each in outcomes] == [Dialogue] * 3 + [NotFinished] * 5
        assert on.devnet.counts.tasks == 3
