"""The dria engine loses nothing, whatever nodes and the RPC do."""

import asyncio
import base64
import json
from collections.abc import Callable, Sequence

import pytest

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.engine import (
    Completion,
    EngineError,
    EngineRefused,
    Message,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.errors import NotFinished
from magpie_cli.records import Dialogue, Usage
from tests.dria_engine import TOKEN, Connected, connected, request
from tests.processes import PATIENCE


class Says:
    """A writer that says the same, or says nothing for a time."""

    name = model = "says"

    def __init__(self, text: str = "words", seconds: float = 0.0) -> None:
        self.text = text
        self.seconds = seconds
        self.asked: list[tuple[Sequence[Message], Sampling]] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The words, late."""
        self.asked.append((messages, sampling))
        await asyncio.sleep(self.seconds)
        return Completion(self.text, "stop", Usage())


async def until(condition: Callable[[], object]) -> None:
    """Return once it is true; the test fails where that takes too long."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.01)


def kinds(errors: Sequence[EngineError]) -> set[str]:
    """What went wrong, each once."""
    return {error.kind for error in errors}


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
    async with connected(DevnetOptions(port=0, nodes=1, lost_rate=0.5, seed=3), timeout=0.3) as on:
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


async def test_an_rpc_that_goes_down_uses_up_no_attempt() -> None:
    """However long the RPC answers 500 to everything, the pairs wait, and then are made."""
    options = DevnetOptions(port=0, rpc_error_rate=0.0)
    async with connected(options, patience=1e6) as on:
        object.__setattr__(options, "rpc_error_rate", 1.0)
        working = asyncio.create_task(on.make(8))
        await until(lambda: len(on.retries) >= 100)
        object.__setattr__(options, "rpc_error_rate", 0.0)
        outcomes = await working
    assert all(isinstance(each, Dialogue) for each in outcomes)
    assert "rpc_down" in kinds(on.retries)
    assert sum(error.kind == "http_500" for error in on.retries) < 3


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


async def test_a_persona_that_looks_like_a_placeholder_stays_a_persona() -> None:
    """Nodes fill `{chat}` wherever they find it: in a persona it reaches the model with spaces."""
    writer = Says("SECRET")
    async with connected(writer=writer) as on:
        await on.engine.dialogue(request(num_turns=1, persona="A tester of {chat} and {persona}"))
    asked = [messages[0]["content"] for messages, _ in writer.asked]
    assert all("A tester of { chat } and {persona}" in prompt for prompt in asked)
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


async def test_a_network_of_another_protocol_refuses_the_run() -> None:
    """An RPC that calls three tasks none, and has taken none, stops the run, with a way out."""
    no_task = "bm8gdGFzaw=="
    async with connected() as on:
        for _ in range(2):
            with pytest.raises(PairRefused):
                await on.rpc.publish(no_task)
        with pytest.raises(
            EngineRefused, match=r"takes no tasks of the Dria SDK 0\.0\.124"
        ) as last:
            await on.rpc.publish(no_task)
        assert "--engine dria-inference" in str(last.value.hint)
        assert isinstance(await on.engine.dialogue(request()), Dialogue)
        with pytest.raises(PairRefused):  # now it is the pair's own fault
            await on.rpc.publish(no_task)


@pytest.mark.parametrize("call", ["send", "ask"])
async def test_one_call_that_is_out_fails_no_pair(call: str) -> None:
    """Where tasks cannot be sent, or answers cannot be had, while the rest works, pairs wait."""
    async with connected(timeout=0.5) as on:
        server = on.rpc._server
        good = getattr(server, call)

        async def bad(*arguments: object) -> object:
            if "get_alive_peers" in str(arguments):
                return await good(*arguments)
            raise Transient("http_500", "out")

        setattr(server, call, bad)
        working = asyncio.create_task(on.make(6))
        await until(lambda: sum(error.kind == "rpc_down" for error in on.retries) > 20)
        setattr(server, call, good)
        outcomes = await working
    assert all(isinstance(each, Dialogue) for each in outcomes)


@pytest.mark.parametrize(
    "beside",
    [{"peer_id": 5}, {"peer_id": None}, {"message": "oops"}, {"recovery_id": 7}, {"signature": ""}],
)
async def test_odd_heartbeats_are_passed_over(beside: dict[str, object]) -> None:
    """What one node says of itself, however odd, takes nothing from the others."""
    async with connected() as on:
        heartbeats = await on.rpc.heartbeats()
        odd = json.dumps(json.loads(heartbeats[0]) | beside)
        on.nodes.refresh([odd, "oops", "{}", *heartbeats[1:]])
        assert on.nodes.served() == {MODEL: len(heartbeats) - 1}
        assert isinstance(await on.engine.dialogue(request()), Dialogue)


async def test_models_that_are_no_names_are_passed_over() -> None:
    """A node that lists numbers among its models serves the others."""
    async with connected(DevnetOptions(port=0, nodes=1)) as on:
        (node,) = on.devnet._nodes.values()
        heartbeat = node._signed(
            {"models": [5, MODEL, "a\nb"], "pending_tasks": [0, 0]}, peer_id=node.peer_id
        )
        on.nodes.refresh([heartbeat])
        assert on.nodes.served() == {"a\nb": 1, MODEL: 1}
        lack = on.nodes.lack("qwq").message
    assert lack == f"no node serves qwq; the network serves a b (1), {MODEL} (1)"
