"""OpenAI's chat completions on any server: https://platform.openai.com/docs/api-reference/chat ."""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from magpie_cli.engine import (
    SCHEMA_REFUSED,
    Completion,
    Message,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.engines.http_server import HttpServer
from magpie_cli.engines.reasoning import beside, split_reasoning
from magpie_cli.records import Usage

MOST_TOKENS = 2**40  # of one answer; more is no count
LONGEST_REASON = 40  # characters of a finish_reason

# What a server says that does not take it: "This response_format type is unavailable now".
_NO_SCHEMA = re.compile("response.?format|json_schema", re.IGNORECASE)
_STREAMING: Mapping[str, object] = {"stream": True, "stream_options": {"include_usage": True}}


class HttpChatModel:
    """A ChatModel of one server and one model name.

    `extra` goes into the body of each request, `max_tokens` is what the server calls the limit of
    an utterance. `streams` asks for answers in pieces: a server that stops working when we go away
    does so for these alone, but 150 pieces cost several times the processor time of one body.
    """

    def __init__(  # noqa: PLR0913 - the parts that it is made of
        self,
        name: str,
        model: str,
        server: HttpServer,
        extra: Mapping[str, object],
        *,
        max_tokens: str = "max_tokens",
        streams: bool = False,
    ) -> None:
        self.name = name
        self.model = model
        self._server = server
        self._fixed = {"model": model, **(_STREAMING if streams else {}), **extra}
        self._max_tokens = max_tokens
        self._streams = streams

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One POST. Raises EngineError; a PairRefused of its own where a schema is too much."""
        body = self._body(sampling, "messages", messages)
        try:
            if not self._streams:
                return _completion(await self._server.ask("POST", "/chat/completions", body))
            return _completion(await _joined(self._server.stream("/chat/completions", body)))
        except PairRefused as error:
            if sampling.schema and _NO_SCHEMA.search(error.message):
                raise PairRefused(SCHEMA_REFUSED, error.message) from error
            raise

    async def write(self, prompt: str, sampling: Sampling, stop: Sequence[str]) -> Completion:
        """What follows `prompt`, by the older API for plain texts. Raises EngineError."""
        body = self._body(sampling, "prompt", prompt) | {"stop": stop}
        if not self._streams:
            return _completion(await self._server.ask("POST", "/completions", body))
        return _completion(await _joined(self._server.stream("/completions", body)))

    def _body(self, sampling: Sampling, key: str, value: object) -> dict[str, object]:
        body = self._fixed.copy()
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.max_tokens is not None:
            body[self._max_tokens] = sampling.max_tokens
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.schema is not None:
            body["response_format"] = _response_format(sampling.schema)
        body[key] = value
        return body


def _response_format(schema: Mapping[str, Any]) -> dict[str, object]:
    """As in https://platform.openai.com/docs/guides/structured-outputs ; others take it too."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


async def _joined(pieces: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    """The answer that the pieces make, in the shape of one that comes whole."""
    texts: list[str] = []
    thoughts: list[str] = []
    finish_reason = usage = None
    try:
        async with aclosing(pieces):  # also where one is malformed, which ends the request
            async for piece in pieces:
                usage = piece.get("usage") or usage
                for choice in piece.get("choices") or ():
                    delta = choice.get("delta", {})
                    texts.append(choice.get("text") or delta.get("content") or "")
                    thoughts.append(beside(delta) or "")
                    finish_reason = choice.get("finish_reason") or finish_reason
        message = {"content": "".join(texts), "reasoning_content": "".join(thoughts)}
    except (AttributeError, TypeError) as error:
        raise Transient("bad_reply", f"a piece of the answer is malformed: {error}") from error
    if finish_reason is None:
        raise Transient("bad_reply", "the answer breaks off before its end")
    return {"choices": [{"message": message, "finish_reason": finish_reason}], "usage": usage}


def _completion(answer: dict[str, Any]) -> Completion:
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text, thought = message["content"], beside(message)
        finish_reason = _short(choice.get("finish_reason"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Transient("bad_reply", "the answer has no choices[0].message.content") from error
    if finish_reason == "content_filter":
        raise PairRefused("content_filter", "the server's content filter stopped the answer")
    if text is not None and not isinstance(text, str):
        raise Transient("bad_reply", f"the answer's content is a {type(text).__name__}")
    said, reasoning = split_reasoning(text or "", thought)
    if not said:
        only = " but for its reasoning" if reasoning else ""
        more = ": more room with --max-tokens" if finish_reason == "length" else ""
        empty = f"an empty answer{only} (finish_reason {finish_reason!r}){more}"
        raise Transient("empty_reply", empty, of_server=False)
    return Completion(said, finish_reason, _usage(answer.get("usage")), reasoning)


def _short(finish_reason: object) -> str | None:
    """It is a word that some act upon, and a message may hold it: all else says nothing."""
    if not isinstance(finish_reason, str) or len(finish_reason) > LONGEST_REASON:
        return None
    return finish_reason


def _usage(usage: object) -> Usage:
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Usage(_count(prompt), _count(completion))


def _count(tokens: object) -> int | None:
    """What a server says that it counted, where that can be; a sum must fit into 64 bits."""
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        return None
    return tokens if 0 <= tokens <= MOST_TOKENS else None
