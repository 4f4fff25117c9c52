"""An answer of a node: a signed message, and in it a text encrypted to the task's key."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from magpie_cli.engine import EngineError, PairRefused, Transient
from magpie_cli.engines.dria.sdk import Sdk, Sealed
from magpie_cli.engines.reasoning import split_reasoning
from magpie_cli.records import Usage, Utterance

LONGEST_NAME = 200  # letters of a model's name
ERROR_SHOWN = 300  # characters of a node's own words

_REFUSED_PROMPT = "Invalid prompt"  # the one error for which the SDK does not try again
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node wrote, stripped, none of it empty, and the model it says it used, if any.

    Nobody counts the tokens.
    """

    utterances: tuple[Utterance, ...]
    model: str


def read_answer(raw: str) -> Sealed | None:
    """The parts of an answer as it comes from the RPC; None where it is malformed.

    `{"message", "signature", "recovery_id"}`: base64 of a JSON object, r and s in hex, v.
    """
    try:
        outer = orjson.loads(raw)
        message = outer["message"]
        result = orjson.loads(base64.b64decode(message))
        # The RPC adds `--` and a word of its own to the id that it was given.
        task_id, _ = result["taskId"].split("--")
        signature = bytes.fromhex(outer["signature"]) + outer["recovery_id"].to_bytes(1, "big")
    except _MALFORMED:
        return None
    return Sealed(message, signature, result, task_id)


def open_answer(  # noqa: PLR0913 - what a task knows of its answer
    sdk: Sdk,
    sealed: Sealed,
    private_key: str,
    node: str,
    number: int,
    *,
    hide: Callable[[str], str] = str,
) -> Answer | EngineError | None:
    """The `number` utterances that `node` wrote, or why it did not.

    None where another than `node` signed it. `hide` takes out of its words what must not be
    repeated.
    """
    outcome: Answer | EngineError
    if "error" in sealed.result:
        outcome = _error(sealed.result["error"], node, hide)
    elif not isinstance(sealed.result.get("ciphertext"), str):
        # The SDK would take it to libsecp256k1 as it is, which aborts the process.
        outcome = Transient("bad_answer", f"node {node}: its answer holds no text")
    else:
        try:
            text = sdk.open(sealed, private_key, node)
        except (ValueError, KeyError, TypeError) as error:
            outcome = Transient("bad_answer", f"node {node}: not to be decrypted: {error}")
        else:
            return None if text is None else _answer(text, sealed, node, number, hide=hide)
    try:
        return outcome if sdk.signer(sealed) == node else None
    except ValueError:  # no signature at all
        return None


def _answer(
    text: str, sealed: Sealed, node: str, number: int, *, hide: Callable[[str], str]
) -> Answer | EngineError:
    try:
        texts = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Transient("bad_answer", f"node {node}: its answer is not JSON: {error}")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return Transient("bad_answer", f"node {node}: its answer is not a list of texts")
    if len(texts) != number:
        return Transient("bad_answer", f"node {node}: {len(texts)} utterances, not {number}")
    parted = (split_reasoning(hide(text)) for text in texts)
    utterances = tuple(Utterance(text, Usage(), (), reasoning) for text, reasoning in parted)
    if not all(utterance.text for utterance in utterances):
        return Transient("empty_reply", f"node {node}: an utterance is empty")
    model = sealed.result.get("model")
    known = isinstance(model, str) and 0 < len(model) <= LONGEST_NAME
    return Answer(utterances, hide(str(model)) if known else "")


def _error(error: object, node: str, hide: Callable[[str], str]) -> EngineError:
    # What is no text may be nested deeper than str() can go.
    words = error if isinstance(error, str) else f"its error is no text: {type(error).__name__}"
    message = f"node {node}: {hide(words)[:ERROR_SHOWN]}"
    if _REFUSED_PROMPT in words:
        return PairRefused("invalid_prompt", message)
    return Transient("node_error", message)
