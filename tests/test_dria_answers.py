"""Answers of nodes: only what the right node signed, and encrypted for us, is ever believed."""

import base64
import json
from collections.abc import Callable
from typing import Any

import coincurve
import ecies
import orjson
import pytest

from magpie_cli.engine import EngineError, PairRefused, Transient
from magpie_cli.engines.dria.answers import Answer, open_answer, read_answer
from magpie_cli.engines.dria.sdk import Sdk, Sealed, TaskKeys
from magpie_cli.records import Usage, Utterance

NODE = coincurve.PrivateKey(b"\1" * 32)
FORGER = coincurve.PrivateKey(b"\2" * 32)
WORDS = ["one", "two", "three", "four"]


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    """The real one."""
    return Sdk()


@pytest.fixture
def keys(sdk: Sdk) -> TaskKeys:
    """Those of the task that is answered."""
    return sdk.new_keys()


@pytest.fixture
def node(sdk: Sdk) -> str:
    """The address of the node that the task was given to."""
    return sdk.signer(sealed({"taskId": "a--b"}))


def raw(content: object, signer: Any = NODE, **instead: Any) -> str:
    """An answer as the RPC gives it."""
    message = base64.b64encode(orjson.dumps(content))
    signature = signer.sign_recoverable(message)
    parts = {
        "message": message.decode(),
        "signature": signature[:64].hex(),
        "recovery_id": signature[64],
    }
    return json.dumps(parts | instead)


def nested(depth: int) -> orjson.Fragment:
    """A list in a list in a list."""
    return orjson.Fragment("[" * depth + "]" * depth)


def sealed(content: object, signer: Any = NODE) -> Sealed:
    """The same, taken apart."""
    parts = read_answer(raw(content, signer))
    assert parts
    return parts


def written(keys: TaskKeys, text: object, **beside: object) -> dict[str, object]:
    """What a node signs once it has written `text`."""
    content = text if isinstance(text, str) else json.dumps(text)
    ciphertext = ecies.encrypt(keys.public, content.encode()).hex()
    return {"taskId": "task--auth", "ciphertext": ciphertext, "model": "m"} | beside


def opened(sdk: Sdk, answer: Sealed, keys: TaskKeys, node: str) -> Answer | EngineError | None:
    """As the engine opens it."""
    return open_answer(sdk, answer, keys.private, node, len(WORDS))


def spoken(*texts: str) -> tuple[Utterance, ...]:
    """Utterances of which nothing is known but their words."""
    return tuple(Utterance(text, Usage()) for text in texts)


def test_what_the_node_wrote_is_read(sdk: Sdk, keys: TaskKeys, node: str) -> None:
    """Utterances come decrypted and stripped, with the model that the node names."""
    answer = sealed(written(keys, [f" {word}\n" for word in WORDS]))
    assert answer.task_id == "task"
    assert opened(sdk, answer, keys, node) == Answer(spoken(*WORDS), "m")


def test_what_a_node_thought_is_not_what_it_said(sdk: Sdk, keys: TaskKeys, node: str) -> None:
    """Reasoning goes to its own place; where there is nothing else, another node is asked."""
    thoughts = ["one", "<think>\nTwo it is.\n</think>\n\ntwo", "So: three.</think>three", "four"]
    answer = opened(sdk, sealed(written(keys, thoughts)), keys, node)
    assert isinstance(answer, Answer)
    assert [utterance.text for utterance in answer.utterances] == WORDS
    assert [utterance.reasoning for utterance in answer.utterances] == [
        *(None, "Two it is.", "So: three.", None)
    ]
    empty = opened(sdk, sealed(written(keys, [*WORDS[:3], "<think>Hm"])), keys, node)
    assert isinstance(empty, Transient)
    assert empty.kind == "empty_reply"


def test_what_another_node_signed_is_passed_over(sdk: Sdk, keys: TaskKeys, node: str) -> None:
    """Good words, errors and nonsense alike: whoever else signs them cannot even fail the pair."""
    for content in (
        written(keys, WORDS),
        {"taskId": "task--auth", "error": "Invalid prompt", "model": "m"},
        written(keys, WORDS, ciphertext="00" * 200),
        written(sdk.new_keys(), WORDS),
    ):
        assert opened(sdk, sealed(content, FORGER), keys, node) is None


def test_a_signature_that_is_none_is_passed_over(sdk: Sdk, keys: TaskKeys, node: str) -> None:
    """Zeros in place of a signature prove nothing, for a text as for an error."""
    for content in (written(keys, WORDS), {"taskId": "a--b", "error": "Invalid prompt"}):
        answer = read_answer(raw(content, signature="00" * 64))
        assert answer
        assert opened(sdk, answer, keys, node) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("oops", "bad_answer"),
        ("null", "bad_answer"),
        ("{}", "bad_answer"),
        ("[]", "bad_answer"),
        (json.dumps(WORDS[:3]), "bad_answer"),
        (json.dumps([*WORDS, "five"]), "bad_answer"),
        (json.dumps([*WORDS[:3], 4]), "bad_answer"),
        (json.dumps([*WORDS[:3], None]), "bad_answer"),
        (json.dumps([*WORDS[:3], " \n"]), "empty_reply"),
        ("[" * 100_000, "bad_answer"),
    ],
)
def test_a_text_that_is_no_dialogue_is_a_failure(
    sdk: Sdk, keys: TaskKeys, node: str, text: str, kind: str
) -> None:
    """Whatever is no list of so many strings with words in them is tried again elsewhere."""
    failed = opened(sdk, sealed(written(keys, text)), keys, node)
    assert isinstance(failed, Transient)
    assert failed.kind == kind
    assert node in failed.message


@pytest.mark.parametrize(
    "ciphertext", ["00", "zz", 7, None, "00" * 200, "", [], [[]], [None], [{}], {"00": 1}]
)
def test_a_text_that_cannot_be_decrypted_is_a_failure(
    sdk: Sdk, keys: TaskKeys, node: str, ciphertext: object
) -> None:
    """The right node's nonsense counts against that node."""
    failed = opened(sdk, sealed(written(keys, WORDS, ciphertext=ciphertext)), keys, node)
    assert isinstance(failed, Transient)
    assert failed.kind == "bad_answer"


def test_a_text_for_another_key_is_a_failure(sdk: Sdk, keys: TaskKeys, node: str) -> None:
    """What was encrypted for somebody else cannot be read."""
    failed = opened(sdk, sealed(written(sdk.new_keys(), WORDS)), keys, node)
    assert isinstance(failed, Transient)


def test_errors_of_the_node_say_what_they_mean(sdk: Sdk, keys: TaskKeys, node: str) -> None:
    """An invalid prompt refuses the pair, as for the SDK; any other error is worth another node."""
    cases: list[tuple[object, type[EngineError]]] = [
        ("Workflow execution failed: Invalid prompt", PairRefused),
        ("Workflow execution failed: no memory", Transient),
        ({"code": 7}, Transient),
        ("x" * 10_000, Transient),
        (None, Transient),
        (nested(100), Transient),
        (nested(1000), Transient),
    ]
    for error, kind in cases:
        failed = opened(sdk, sealed({"taskId": "a--b", "error": error}), keys, node)
        assert type(failed) is kind
        assert len(failed.message) < 400


NO_ANSWERS: dict[str, Callable[[], str]] = {
    "no JSON": lambda: "{",
    "no object": lambda: "[1]",
    "nothing": lambda: "{}",
    "no message": lambda: raw({"taskId": "a--b"}, message=None),
    "no base64": lambda: raw({"taskId": "a--b"}, message="é"),
    "no JSON inside": lambda: raw({}, message=base64.b64encode(b"oops").decode()),
    "a list inside": lambda: raw(["a--b"]),
    "no task id": lambda: raw({"model": "m"}),
    "no -- in the id": lambda: raw({"taskId": "ab"}),
    "nested too deep": lambda: raw({"taskId": "a--b", "error": nested(2000)}),
    "two -- in the id": lambda: raw({"taskId": "a--b--c"}),
    "no hex": lambda: raw({"taskId": "a--b"}, signature="xyz"),
    "no recovery id": lambda: raw({"taskId": "a--b"}, recovery_id="1"),
    "a great recovery id": lambda: raw({"taskId": "a--b"}, recovery_id=2**40),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_what_is_no_answer_at_all_is_passed_over(case: str) -> None:
    """Nothing that the RPC may hand over stops the engine."""
    assert read_answer(NO_ANSWERS[case]()) is None


CANARY = "sk-dria-canary"


def hidden(text: str) -> str:
    """Without the token."""
    return text.replace(CANARY, "***")


@pytest.mark.parametrize("token", [CANARY, CANARY.replace("s", r"\u0073")])
def test_nobody_is_quoted_with_the_token(sdk: Sdk, keys: TaskKeys, node: str, token: str) -> None:
    """In an utterance, a model's name or an error it is ***, with or without escapes of JSON."""
    text = json.dumps([*WORDS[:3], "a TOKEN b"]).replace("TOKEN", token)
    wrote = sealed(written(keys, text, model=f"m-{CANARY}"))
    answer = open_answer(sdk, wrote, keys.private, node, len(WORDS), hide=hidden)
    assert answer == Answer(spoken(*WORDS[:3], "a *** b"), "m-***")
    said = sealed({"taskId": "a--b", "error": "x" * 290 + CANARY})
    failed = open_answer(sdk, said, keys.private, node, len(WORDS), hide=hidden)
    assert isinstance(failed, Transient)
    assert failed.message.endswith("x***")
