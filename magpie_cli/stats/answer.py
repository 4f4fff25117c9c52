"""What `magpie stats` found: values for programs, sections for people."""

from dataclasses import dataclass

from magpie_cli.checks import CHECKS
from magpie_cli.display.table import Entry, Section
from magpie_cli.lines import input_name
from magpie_cli.stats.counts import Spread
from magpie_cli.stats.similar import HOW, Similarity
from magpie_cli.summary import count


@dataclass(frozen=True, slots=True)
class Tokens:
    """As the servers counted them. The totals are over the rows that have a number.

    `per_row` and `per_utterance` are of completion tokens; the latter the mean of its row.
    """

    prompt_tokens: int
    completion_tokens: int
    per_row: Spread | None
    per_utterance: Spread | None


@dataclass(frozen=True, slots=True)
class Common:
    """Words, how many utterances begin with them or hold them, and which share of all that is."""

    words: str
    utterances: int
    share: float


@dataclass(frozen=True, slots=True)
class Openings:
    """The first three words of a speaker's utterances; `distinct` is at least so many if `cut`."""

    distinct: int
    cut: bool
    commonest: tuple[Common, ...]


@dataclass(frozen=True, slots=True)
class Trigrams:
    """Three words in a row, counted once an utterance.

    `missed` is 0 while all fit into the table; else a count may be too low by so many at most.
    """

    distinct: int
    missed: int
    commonest: tuple[Common, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check finds now, in how many utterances and rows."""

    name: str
    utterances: int
    rows: int


@dataclass(frozen=True, slots=True)
class Personas:
    """How many different ones there are."""

    instructor: int
    responder: int


@dataclass(frozen=True, slots=True)
class Stats:
    """All of it. `words` are of utterances; `recorded` the findings that rows hold, by rows.

    `failures` are the pairs without a row by the kind of their failure, None where no file has any.
    """

    input: str
    rows: int
    no_records: int
    repeated_ids: int
    utterances: int
    turns: Spread | None
    words: dict[str, Spread | None]
    tokens: Tokens
    openings: dict[str, Openings]
    trigrams: Trigrams
    findings: tuple[Finding, ...]
    recorded: dict[str, int]
    similarity: Similarity
    personas: Personas
    models: dict[str, int]
    engines: dict[str, int]
    failures: dict[str, int] | None = None

    def sections(self) -> tuple[Section, ...]:
        """For a person; without those that say nothing."""
        found = tuple(
            Entry(
                f"{finding.name}: {CHECKS[finding.name].reason}",
                f"{count(finding.rows, 'row')}, {count(finding.utterances, 'utterance')}",
                finding.rows / self.rows,
            )
            for finding in self.findings
        )
        sections = (
            self._overview(),
            Section("lengths", self._lengths(), "5 %, median, 95 %, most"),
            *self._openings(),
            Section("commonest trigrams", _shares(self.trigrams.commonest), self._cut_note()),
            Section("findings", found, "all checks run afresh"),
            Section("findings in the rows", self._counted(self.recorded)),
            Section("similarity", self._similarity(), self._similarity_note()),
            Section("models", self._counted(self.models)),
            Section("engines", self._counted(self.engines)),
            Section("failures", _among(self.failures or {})),
        )
        return tuple(section for section in sections if section.entries)

    def _overview(self) -> Section:
        entries = [
            Entry("rows", f"{self.rows:,}"),
            Entry("utterances", f"{self.utterances:,}"),
            Entry("instructor personas", f"{self.personas.instructor:,}"),
            Entry("responder personas", f"{self.personas.responder:,}"),
        ]
        if self.no_records:
            entries.append(Entry("lines that are no records", f"{self.no_records:,}"))
        if self.repeated_ids:
            entries.append(Entry("rows with the id of another", f"{self.repeated_ids:,}"))
        if self.tokens.per_row:
            entries.append(Entry("prompt tokens", f"{self.tokens.prompt_tokens:,}"))
            entries.append(Entry("completion tokens", f"{self.tokens.completion_tokens:,}"))
        return Section(input_name(self.input), tuple(entries))

    def _lengths(self) -> tuple[Entry, ...]:
        spreads = {
            "turns a dialogue": self.turns,
            **{f"words an utterance, {name}": spread for name, spread in self.words.items()},
            "completion tokens a dialogue": self.tokens.per_row,
            "completion tokens an utterance": self.tokens.per_utterance,
        }
        return tuple(
            Entry(name, f"{spread.p5:,}  {spread.p50:,}  {spread.p95:,}  {spread.most:,}")
            for name, spread in spreads.items()
            if spread
        )

    def _openings(self) -> tuple[Section, ...]:
        return tuple(
            Section(
                f"openings of the {speaker}",
                _shares(openings.commonest),
                f"{'at least ' if openings.cut else ''}{openings.distinct:,} different",
            )
            for speaker, openings in self.openings.items()
        )

    def _cut_note(self) -> str:
        missed = self.trigrams.missed
        lost = f"; the table was cut, counts may be too low by {missed:,}" if missed else ""
        return f"share of utterances{lost}"

    def _similarity(self) -> tuple[Entry, ...]:
        found = self.similarity
        values = {
            "within a dialogue, to the speaker's last": found.within,
            "between dialogues": found.between,
            "to the nearest dialogue": found.nearest,
            "to the nearest, 95 %": found.nearest_p95,
        }
        return tuple(
            Entry(name, f"{value:.3f}", value)
            for name, value in values.items()
            if value is not None
        )

    def _similarity_note(self) -> str:
        return (
            f"{HOW}; means over {count(self.similarity.sampled, 'row')}, drawn the same each time"
        )

    def _counted(self, rows: dict[str, int]) -> tuple[Entry, ...]:
        return tuple(Entry(name, count(n, "row"), n / self.rows) for name, n in rows.items())


def _shares(commonest: tuple[Common, ...]) -> tuple[Entry, ...]:
    """Those that come more than once."""
    return tuple(
        Entry(common.words, f"{common.share:.1%}", common.share)
        for common in commonest
        if common.utterances > 1
    )


def _among(kinds: dict[str, int]) -> tuple[Entry, ...]:
    whole = sum(kinds.values())
    return tuple(Entry(kind, f"{n:,}", n / whole) for kind, n in kinds.items())
