"""What comes back for one HTTP/1.1 request (RFC 9112), parsed by httptools."""

from collections.abc import Sequence
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEADER_BYTES = 64 * 1024  # and what is read at once, 256 KiB: of all that is no body
MAX_WORDS_BYTES = 64 * 1024  # of an error, or of a reply that is not looked at
_WITHOUT_BODY = (204, 304)


class Reply(NamedTuple):
    """A whole answer. `is_cut` where its body was larger than asked for."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    is_cut: bool = False

    @property
    def is_good(self) -> bool:
        """Whether its status says so."""
        return 200 <= self.status < 300

    def header(self, name: str) -> str | None:
        """The first header of that name, None where there is none."""
        wanted = name.lower().encode()
        found = (value for key, value in self.headers if key.lower() == wanted)
        return next((value.decode("latin-1") for value in found), None)


class Answer:
    """What is read of the answers of one connection, one after the other: `begin` each."""

    def __init__(self) -> None:
        self.is_done = True
        self.is_flowing = False
        self.is_last = False  # of the connection
        self.error: OSError | None = None
        self._parser = HttpResponseParser(self)

    def begin(self, most: int, *, flows: bool = False, has_body: bool = True) -> None:
        """Read at most `most` bytes of body, unless a good answer `flows`.

        With `has_body` false it ends with its headers: that of a CONNECT.
        """
        self.is_done = self.is_flowing = False
        self._most = most
        self._flows = flows
        self._has_body = has_body
        self._status = self._size = self._bodiless = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """More bytes of it."""
        self._bodiless += len(data)  # until there is body among them: the parser keeps headers
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.fail(ConnectionAbortedError("an answer in another protocol"))
        except HttpParserError as error:
            self.fail(ConnectionAbortedError(f"an answer that is no HTTP: {error}"))
        if self._bodiless > MAX_HEADER_BYTES:
            self.fail(ConnectionAbortedError("an answer that is no HTTP: endless headers"))

    def end(self) -> None:
        """No more bytes come, which may be how it says where it ends (RFC 9112, 6.3)."""
        self.is_last = True
        headers = {name.lower(): value.lower() for name, value in self._headers}
        ends = b"content-length" in headers or b"chunked" in headers.get(b"transfer-encoding", b"")
        if not self._status or self._status in _WITHOUT_BODY or ends:
            self.fail(ConnectionResetError("the connection was closed before the answer's end"))
        self.is_done = True

    def fail(self, error: OSError) -> None:
        """It is none, for the first such reason."""
        if not self.is_done:
            self.error = error
            self.is_done = self.is_last = True

    def reply(self) -> Reply:
        """The whole of it. Raises OSError."""
        if self.error:
            raise self.error
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = [body]  # and not both: it may be of many megabytes
        is_cut = self._size > self._most
        return Reply(self._status, self._headers, body[: self._most] if is_cut else body, is_cut)

    def take(self) -> bytes:
        """What has come of its body since this was last asked."""
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Of this answer, or of one behind it that nobody asked for."""
        self.is_last = self.is_last or self.is_done

    def on_header(self, name: bytes, value: bytes) -> None:
        """One before the body, or one behind a body in chunks, of which none counts."""
        if not self._status:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """All of them; of an interim answer (RFC 9110, 15.2), or one behind it, none counts."""
        if self.is_done:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
            return
        self._status = status
        if not self._has_body:
            self.is_done = True
            self.is_last = status >= 300
        elif status >= 300:
            self._most = min(self._most, MAX_WORDS_BYTES)
        elif self._flows:
            self.is_flowing = True

    def on_body(self, body: bytes) -> None:
        """A piece of it; behind the headers of one without a body, what nobody asked for."""
        self._bodiless = 0
        if self.is_done:
            self.is_last = True
            return
        self._pieces.append(body)
        self._size += len(body)
        if self._size > self._most and not self.is_flowing:
            self.is_done = self.is_last = True

    def on_message_complete(self) -> None:
        """It ends here, unless it was an interim one."""
        if self._status and not self.is_done:
            self.is_done = True
            self.is_last = not self._parser.should_keep_alive()
