"""Keys and tokens: where they come from, and that none of them is ever repeated.

From the environment; from files of their names in `$CREDENTIALS_DIRECTORY`, which systemd makes
(https://systemd.io/CREDENTIALS/); from the file that --token-file names. Never from a flag: `ps`
shows those to everybody.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TextIO

from magpie_cli.errors import UsageError

VARIABLES = (
    "DRIA_RPC_TOKEN",
    "DRIA_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "VLLM_API_KEY",
    "MAGPIE_API_KEY",
    "HF_TOKEN",
)
MOST_BYTES = 64 * 1024  # of a file with one token
SHORTEST_SECRET = 8  # characters; shorter keys are placeholders like EMPTY

_HIDDEN = "***"


def load_credentials(environment: MutableMapping[str, str]) -> None:
    """Put what systemd has into variables that are not set."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    for variable in VARIABLES if folder else ():
        path = Path(folder or "") / variable
        if path.is_file() and not environment.get(variable, "").strip():
            environment[variable] = read_token(path)


def read_token(path: Path) -> str:
    """The one line of a file. Raises UsageError where it holds none."""
    try:
        with path.open("rb") as file:
            token = file.read(MOST_BYTES).decode("ascii").strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable():
        raise UsageError(f"{path} does not hold a token alone", "one line, nothing else")
    return token


class Redactor:
    """Takes every credential out of what is shown or kept.

    A word without a digit is left alone: it is a placeholder, and a persona may use it.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        telling = {secret.strip() for secret in secrets}
        # As each stands, and as it stands in JSON.
        forms = {form for secret in telling if _is_telling(secret) for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)  # one may begin another

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Redactor":
        """Of all credentials that are set now."""
        return cls(environment.get(variable, "") for variable in VARIABLES)

    def text(self, text: str) -> str:
        """`text` without them."""
        for secret in self._forms:
            text = text.replace(secret, _HIDDEN)
        return text

    def line(self, line: bytes) -> bytes:
        """A line of JSON without them."""
        for secret in self._forms:
            line = line.replace(secret.encode(), _HIDDEN.encode())
        return line


class RedactedStream:
    """A text stream that every write goes through the redactor of."""

    def __init__(self, stream: TextIO, environment: Mapping[str, str]) -> None:
        self._stream = stream
        self._environment = environment

    def write(self, text: str) -> int:
        """Write `text` without a credential that is set by then."""
        self._stream.write(Redactor.of(self._environment).text(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them so."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _is_telling(secret: str) -> bool:
    return len(secret) >= SHORTEST_SECRET and any(letter.isdigit() for letter in secret)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
