"""What a devnet's node does with a workflow: as the nodes of the SDK's time did."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.devnet.workflow import WorkflowFailed, execute
from magpie_cli.engine import Message

Json = dict[str, Any]
PERSONAS = {"asker": "a maths teacher", "teller": "a pupil"}


class Scribe:
    """Says one text after another, then "text 1", "text 2" and on, and keeps what it is asked."""

    def __init__(self, *texts: str, seconds: float = 0.0, failures: int = 0) -> None:
        self.asked: list[str] = []
        self.limits: list[int] = []
        self._texts = iter(texts)
        self._seconds = seconds
        self._failures = failures

    async def write(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The next text; the first `failures` times none."""
        (message,) = messages
        assert message["role"] == "user"
        self.asked.append(message["content"])
        self.limits.append(max_tokens)
        await asyncio.sleep(self._seconds)
        if len(self.asked) <= self._failures:
            raise WorkflowFailed("the model is away")
        return next(self._texts, f"text {len(self.asked)}")


def source(words: str) -> Json:
    """`get_all chat` or `peek chat 1`, as a workflow has it."""
    kind, key, index = [*words.split(), None][:3]
    return {"type": kind, "key": key, "index": int(index) if index else None}


def task(
    number: str,
    template: str = "?",
    reads: Mapping[str, str] | None = None,
    writes: Sequence[str] = ("push chat __result",),
    **more: Any,
) -> Json:
    """A task that reads each name from a source, and pushes what is written to `chat`."""
    outputs = [dict(zip(("type", "key", "value"), words.split(), strict=True)) for words in writes]
    inputs = [
        {"name": name, "value": source(words), "required": more.get("required", False)}
        for name, words in (reads or {}).items()
    ]
    made = {"id": number, "operator": "generation", "inputs": inputs, "outputs": outputs}
    return made | {"messages": [{"role": "user", "content": template}]} | more


def step(origin: str, target: str, **more: Any) -> Json:
    """From a task to the next."""
    return {"source": origin, "target": target, **more}


def step_if(origin: str, condition: str, words: str, expected: str) -> Json:
    """From a task to `yes` where the condition is met, else to `no`."""
    asked = {"expression": condition, "input": source(words), "expected": expected}
    return step(origin, "yes", condition=asked | {"target_if_not": "no"})


def workflow(tasks: Sequence[Json], steps: Sequence[Json]) -> Json:
    """A workflow that returns all of `chat` as JSON."""
    flow = {"config": {"max_steps": 50, "max_time": 200}, "tasks": tasks, "steps": steps}
    return flow | {"return_value": {"input": source("get_all chat"), "to_json": True}}


def single(**more: Any) -> Json:
    """A workflow of one task."""
    return workflow([task("0", **more)], [step("0", "_end")])


def dialogue(turns: int, memory: Mapping[str, str] = PERSONAS, **config: Any) -> Json:
    """The shape of the SDK's MagPie: two tasks in turn, until there are `turns` responses."""
    reads = {"asker": "read asker", "teller": "read teller", "chat": "get_all chat"}
    writes = ("push responses __result", "push chat __result")
    first = task("no", "{{asker}} to {{teller}}: {{chat}}", reads)
    second = task("1", "{{teller}} to {{asker}}: {{chat}}", reads, writes)
    enough = step_if("1", "GreaterThanOrEqual", "size responses", str(turns))
    flow = workflow([first, second], [step("no", "1"), enough])
    return flow | {"external_memory": memory, "config": flow["config"] | config}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=24))
async def test_a_dialogue_has_two_texts_a_turn(turns: list[tuple[str, str]]) -> None:
    """What comes back is a JSON list of the texts, in order and verbatim, two a turn."""
    said = [f"Well: {text}" for turn in turns for text in turn]
    assert json.loads(await execute(dialogue(len(turns)), Scribe(*said).write)) == said


async def test_a_prompt_keeps_its_outer_braces_and_has_the_history_line_by_line() -> None:
    """`{{key}}` becomes `{value}`, and in it each utterance so far ends with a space and a line."""
    scribe = Scribe("What is 2+2?", "4, „denke“ ich")
    await execute(dialogue(2), scribe.write)
    assert scribe.asked[:3] == [
        "{a maths teacher} to {a pupil}: {}",
        "{a pupil} to {a maths teacher}: {What is 2+2? \n}",
        "{a maths teacher} to {a pupil}: {What is 2+2? \n4, „denke“ ich \n}",
    ]


async def test_placeholders_in_a_persona_are_filled_too() -> None:
    """A persona that holds another input's placeholder gets that input's text, as on a node."""
    scribe = Scribe("Hi {teller}")
    await execute(dialogue(1, {"asker": "A {teller} {chat}", "teller": "B {chat}"}), scribe.write)
    assert scribe.asked == [
        "{A B  } to {B }: {}",
        "{B Hi {teller} \n} to {A B Hi {teller} \n Hi {teller} \n}: {Hi {teller} \n}",
    ]


@pytest.mark.parametrize(
    ("condition", "met", "not_met"),
    [
        ("Equal", ("yes", "yes"), ("1.5", "1.50")),  # they are texts
        ("NotEqual", ("yes", "no"), ("yes", "yes")),
        ("Contains", ("so yes!", "yes"), ("yes", "so yes!")),
        ("NotContains", ("no", "yes"), ("so yes!", "yes")),
        ("GreaterThan", ("10", "9"), ("9", "9.0")),  # they are numbers
        ("GreaterThanOrEqual", ("9", "9.0"), ("8.9", "9")),
        ("LessThan", ("9", "10"), ("9", "9.0")),
        ("LessThanOrEqual", ("9", "9.0"), ("9.1", "9")),
    ],
)
async def test_a_condition_picks_the_next_task(
    condition: str, met: tuple[str, str], not_met: tuple[str, str]
) -> None:
    """Where it is met the step goes to its target, else to the other; later steps do not count."""
    tasks = [task("0"), task("yes", "yes"), task("no", "no")]
    for (value, expected), branch in ((met, "yes"), (not_met, "no")):
        steps = [step_if("0", condition, "read it", expected)]
        steps += [step(name, to) for to in ("_end", "0") for name in ("yes", "no")]
        flow, scribe = workflow(tasks, steps), Scribe()
        await execute(flow | {"external_memory": {"it": value}}, scribe.write)
        assert scribe.asked == ["?", branch]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("read word", "hello|3"),
        ("get_all stack", "a \nb \nc \n|3"),
        ("size stack", "3|3"),
        ("pop stack", "c|2"),
        ("peek stack", "a|3"),
        ("peek stack 2", "c|3"),
        ("peek stack 3", "|3"),
        ("string word", "word|3"),
    ],
)
async def test_an_input_is_read(words: str, text: str) -> None:
    """Each kind finds its text, or none where it is not required; only `pop` takes it away."""
    flow = single(template="{it}|{left}", reads={"it": words, "left": "size stack"})
    flow["external_memory"], scribe = {"word": "hello", "stack": ["a", "b", "c"]}, Scribe()
    await execute(flow, scribe.write)
    assert scribe.asked == [text]


@pytest.mark.parametrize("kind", ["read", "get_all", "pop", "peek"])
async def test_a_required_input_that_is_missing_fails(kind: str) -> None:
    """A task that lacks what it needs writes nothing, and its failure says what it lacks."""
    flow, scribe = single(reads={"it": f"{kind} none"}, required=True), Scribe()
    with pytest.raises(WorkflowFailed, match="'it' is missing"):
        await execute(flow, scribe.write)
    assert scribe.asked == []


async def test_outputs_write_and_push() -> None:
    """`write` replaces a value, `push` adds to a stack, and a fixed text stands for itself."""
    writes = ("write last __result", "push all __result", "push all fixed")
    flow = single(writes=writes) | {"external_memory": {"last": "old", "all": ["old"]}}
    for words, text in (("read last", "new"), ("get_all all", "old \nnew \nfixed \n")):
        flow["return_value"] = {"input": source(words)}
        assert await execute(flow, Scribe("new").write) == text


async def test_the_last_step_allowed_is_one_too_many() -> None:
    """Three turns are six steps, and fail where six are allowed, although all texts are there."""
    scribe = Scribe()
    with pytest.raises(WorkflowFailed, match="Max steps reached"):
        await execute(dialogue(3, max_steps=6), scribe.write)
    assert len(scribe.asked) == 6
    assert len(json.loads(await execute(dialogue(3, max_steps=7), scribe.write))) == 6


async def test_time_runs_out_between_steps() -> None:
    """The step that overran is finished, none begins after it, and the workflow has failed."""
    scribe = Scribe(seconds=0.6)
    with pytest.raises(WorkflowFailed, match="Max time reached"):
        await execute(dialogue(3, max_time=0.5), scribe.write)
    assert len(scribe.asked) == 1


async def test_a_fallback_is_the_next_step() -> None:
    """A task that fails hands over to its fallback, as one more step; without one it is the end."""
    tasks = [task("0", "first"), task("1", "second"), task("2", "third")]
    flow = workflow(tasks, [step("0", "1", fallback="2"), step("1", "_end"), step("2", "_end")])
    scribe = Scribe(failures=1)
    assert json.loads(await execute(flow, scribe.write)) == ["text 2"]
    assert scribe.asked == ["first", "third"]
    with pytest.raises(WorkflowFailed, match="the model is away"):
        await execute(flow, Scribe(failures=2).write)
    flow["config"]["max_steps"] = 2
    with pytest.raises(WorkflowFailed, match="Max steps reached"):
        await execute(flow, Scribe(failures=1).write)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, {"tasks": [task("0", operator=name)]}) for name in ("check", "search")),
        ("input", {"tasks": [task("0", reads={"it": "input it"})]}),
        ("insert", {"tasks": [task("0", writes=["insert it __result"])]}),
        ("HaveSimilar", {"steps": [step_if("0", "HaveSimilar", "read it", "a")]}),
        ("post_process", {"return_value": {"input": source("read a"), "post_process": ["b"]}}),
    ],
)
async def test_what_a_devnet_cannot_do_is_a_failure(name: str, change: Json) -> None:
    """What only real nodes can do is named in the failure, and nothing is guessed instead."""
    with pytest.raises(WorkflowFailed, match=f"{name}.* not supported on a devnet"):
        await execute(single() | change, Scribe().write)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"a":1,"b":[1,2]}'),
        ('\n[ "日本", null ]\n', '["日本",null]'),
        ('"quoted"', '"quoted"'),
        ('{"a": 1} and more', '{"a": 1} and more'),
        ("  two  words \n", "  two  words \n"),
        ("", ""),
    ],
)
async def test_what_happens_to_be_json_loses_its_spaces(said: str, kept: str) -> None:
    """A text that parses as JSON is kept compact, as a text; any other is kept as it is."""
    scribe = Scribe(said)
    assert json.loads(await execute(dialogue(1), scribe.write)) == [kept, "text 2"]
    assert scribe.asked[1].endswith(f"{{{kept} \n}}")


async def test_external_memory_is_there_from_the_start() -> None:
    """A list is a stack, anything else a value, and each entry a text."""
    memory = {"list": ["a", {"b": 1}, 2], "none": [], "other": {"a": [1, "ß"]}}
    reads = {"stack": "get_all list", "size": "size none", "value": "read other"}
    flow, scribe = single(template="{stack}|{size}|{value}", reads=reads), Scribe()
    await execute(flow | {"external_memory": memory}, scribe.write)
    assert scribe.asked == ['a \n{"b":1} \n2 \n|0|{"a":[1,"ß"]}']


async def test_the_return_value_is_as_asked() -> None:
    """It is JSON where the workflow says so and plain text elsewhere, and may be nothing."""
    chat, nothing = source("get_all chat"), source("read none")
    for wanted, text in (
        ({"input": chat, "to_json": True}, '["„ja“"]'),
        ({"input": [chat, nothing]}, "„ja“ \n"),
        ({"input": nothing, "to_json": True}, "null"),
        ({"input": nothing, "to_json": False}, ""),
    ):
        assert await execute(single() | {"return_value": wanted}, Scribe("„ja“").write) == text


async def test_the_writer_hears_the_limit() -> None:
    """Each text has as many tokens as the workflow allows, and 250 where it does not say."""
    for config, limit in (({}, 250), ({"max_tokens": None}, 250), ({"max_tokens": 77}, 77)):
        scribe = Scribe()
        await execute(dialogue(2, **config), scribe.write)
        assert scribe.limits == [limit] * 4


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in ("config", "tasks", "steps", "return_value")),
        {"config": {"max_steps": "many", "max_time": 200}},
        {"tasks": [{"id": "0"}]},
        {"steps": []},
        {"steps": [step("unknown", "_end")]},
        {"steps": [step_if("0", "LessThan", "size chat", "few")]},
    ],
)
async def test_a_malformed_workflow_is_an_error(change: Json) -> None:
    """What is no workflow raises what a lookup or a conversion raises, and gives no text."""
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        await execute(single() | change, Scribe().write)
