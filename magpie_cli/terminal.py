"""JSON for a person's eyes."""

import dataclasses
import json
import re

import orjson

# JSON escapes the control characters below U+0020 itself. These would reach a terminal too: DEL, C1
# and the marks that reverse what stands after them.
_TERMINAL_CONTROLS = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def for_terminal(line: bytes) -> bytes:
    """A line of JSON that says the same without a byte that steers a terminal."""
    return _TERMINAL_CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)


def as_json(value: object) -> bytes:
    """An answer as JSON of several lines, the odd bytes of a path that is not UTF-8 escaped."""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2)
    except orjson.JSONEncodeError:  # which takes no such path
        return json.dumps(value, indent=2, default=_fields).encode()


def _fields(value: object) -> object:
    return dataclasses.asdict(value)  # type: ignore[call-overload]
