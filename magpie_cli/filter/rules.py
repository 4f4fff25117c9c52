"""Which rows stay: the rules of one run, and what each of them takes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from magpie_cli.checks import CHECKS, REPAIRS
from magpie_cli.checks.spoken import Spoken
from magpie_cli.errors import UsageError
from magpie_cli.filter.near import Seen
from magpie_cli.filter.where import Where
from magpie_cli.records import Record
from magpie_cli.rows import Row, spoken

ALL = "all"
NO_RECORD = "no_record"
NAMES = (*CHECKS, *REPAIRS)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a row must pass. `checks` are names of checks, and of repairs; bounds in words.

    Of doubles the first that passes all else stays; `near` is the similarity from which on two are
    doubles, None where only the same words are. With `keep_duplicates` nothing is one. With `trim`,
    a row is judged, and stays, without courtesies at its end.
    """

    checks: frozenset[str]
    min_words: int | None = None
    max_words: int | None = None
    near: float | None = None
    where: tuple[Where, ...] = ()
    keep_duplicates: bool = False
    trim: bool = False

    def reasons(self, row: Row) -> list[str]:
        """All that speaks against a row but its likeness to others."""
        if row.record is None:
            return [NO_RECORD]
        found = set(self.checks.intersection(row.record.findings))
        for said in spoken(row.record, self.min_words, self.max_words):
            found |= {name for name in self.checks - found if _finds(name, said)}
        reasons = [name for name in NAMES if name in found]
        return reasons + [f"where: {e.text}" for e in self.where if not e.holds(row.fields)]


def _finds(name: str, said: Spoken) -> bool:
    """Afresh; that something was mended, only the row itself can tell."""
    return name in CHECKS and CHECKS[name].finds(said)


class Doubles:
    """The duplicates among the rows that pass all else."""

    def __init__(self, rules: Rules) -> None:
        self._seen = None if rules.keep_duplicates else Seen(rules.near)

    def of(self, number: int, record: Record) -> tuple[list[str], str | None]:
        """The rule that it breaks, if any, and the id of the row that it repeats."""
        if self._seen is None:
            return [], None
        rule, other = self._seen.repeats(number, record)
        return ([rule] if rule else []), other


def rules_of(  # noqa: PLR0913 - one for each flag
    checks: Iterable[str] = (),
    without: Iterable[str] = (),
    where: Iterable[str] = (),
    *,
    min_words: int | None = None,
    max_words: int | None = None,
    near: float | None = None,
    keep_duplicates: bool = False,
    trim: bool = False,
) -> Rules:
    """The rules that flags ask for. Raises UsageError.

    The hard checks, and `checks`, but not `without`; of both, `all` and `a,b` may be said. A bound
    in words that is given is checked too.
    """
    if min_words and max_words and min_words > max_words:
        raise UsageError(f"--min-words {min_words} is more than --max-words {max_words}")
    if near is not None and keep_duplicates:
        raise UsageError("--near takes duplicates out, --keep-duplicates keeps them", "leave one")
    more, less = set(_names(checks, "--check")), set(_names(without, "--no-check"))
    hard = {name for name, check in CHECKS.items() if check.is_hard}
    names = (set() if ALL in less else hard) | (set(CHECKS) if ALL in more else more)
    names |= {"too_short"} if min_words else set()
    names |= {"too_long"} if max_words else set()
    return Rules(
        frozenset(names - less),
        min_words,
        max_words,
        near,
        tuple(map(Where, where)),
        keep_duplicates,
        trim,
    )


def _names(given: Iterable[str], flag: str) -> Iterator[str]:
    for name in (name.strip() for names in given for name in names.split(",")):
        if name != ALL and name not in NAMES:
            raise UsageError(
                f"{flag} {name}: there is no such check", f"one of: {', '.join(NAMES)}, {ALL}"
            )
        yield name
