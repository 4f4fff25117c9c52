"""JSON for a person's eyes."""

import re

# JSON escapes the control characters below U+0020 itself. These would reach a terminal too: DEL, C1
# and the marks that reverse what stands after them.
_TERMINAL_CONTROLS = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def for_terminal(line: bytes) -> bytes:
    """A line of JSON that says the same without a byte that steers a terminal."""
    return _TERMINAL_CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)
