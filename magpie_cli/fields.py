"""The fields of a JSON object from a file, each of its type, or what is wrong with it."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson

from magpie_cli.errors import InvalidRecord

_T = TypeVar("_T", str, int, list[Any], dict[str, Any])
_TYPE_NAMES = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}


def json_object(line: bytes | str) -> dict[str, Any]:
    """The object of one line. This and all below raise InvalidRecord."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidRecord(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InvalidRecord("not a JSON object")
    return row


def field_of(row: Mapping[str, object], key: str, kind: type[_T]) -> _T:
    """What stands under `key`, of the type `kind`; true and false are no numbers."""
    value = row.get(key)
    if value is None and key not in row:
        raise InvalidRecord(f'"{key}" is missing')
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidRecord(f'"{key}" is not {_TYPE_NAMES[kind]}')
    return value


def tokens_of(usage: Mapping[str, object], key: str) -> int | None:
    """A count of `usage`, None where nobody counted."""
    return None if usage.get(key) is None else field_of(usage, key, int)


def findings_of(row: Mapping[str, object]) -> tuple[str, ...]:
    """Names of checks."""
    findings = field_of(row, "findings", list)
    if not all(isinstance(finding, str) for finding in findings):
        raise InvalidRecord('"findings" is not a list of strings')
    return tuple(findings)


def reasoning_of(row: Mapping[str, object]) -> list[str | None]:
    """One for each utterance; nothing in a row of before there was any."""
    if row.get("reasoning") is None:
        return []
    thoughts = field_of(row, "reasoning", list)
    if not all(thought is None or isinstance(thought, str) for thought in thoughts):
        raise InvalidRecord('"reasoning" is not a list of strings and nulls')
    return thoughts


def texts_of(dialogue: list[object]) -> list[str]:
    """The texts of a `dialogue` list, if its speakers alternate as they must."""
    texts = []
    for position, entry in enumerate(dialogue):
        speaker = "responder" if position % 2 else "instructor"
        text = entry.get(speaker) if isinstance(entry, dict) and len(entry) == 1 else None
        if not isinstance(text, str):
            raise InvalidRecord(f'"dialogue"[{position}] is not {{"{speaker}": "..."}}')
        texts.append(text)
    return texts
