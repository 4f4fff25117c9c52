"""`magpie stats`: what an output holds, measured in one pass and bounded memory.

__init__.py  the pass over the rows
answer.py    what was found, for programs and for people
counts.py    how numbers spread, and which things are the commonest
similar.py   how alike dialogues are
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from magpie_cli.checks import findings
from magpie_cli.checks.spoken import Speaker
from magpie_cli.checks.words import Run, ngrams, words
from magpie_cli.errors import InvalidRecord, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Failure, Record
from magpie_cli.rows import read_rows, refuse_without_rows, spoken
from magpie_cli.stats.answer import Common, Finding, Openings, Personas, Stats, Tokens, Trigrams
from magpie_cli.stats.counts import Commonest, Numbers
from magpie_cli.stats.similar import Sample
from magpie_cli.store import Manifest, OutputPaths, is_stream

SHOWN = 10  # of the commonest
SPEAKERS: tuple[Speaker, Speaker] = ("instructor", "responder")


def stats(source: str, failures: str | None = None) -> Stats:
    """Measure the rows of `source`, `-` being standard input; changes nothing.

    Raises UsageError where there is no such file, no row in it, or no file of the failures that
    were named.
    """
    refuse_without_rows(source)
    failed = _failures_file(source, failures)
    seen = _Seen()
    for row in read_rows(source):
        if row.record:
            seen.add(row.record)
        else:
            seen.no_records += 1
    found = seen.answer(source)
    return replace(found, failures=_kinds(failed, seen.ids)) if failed else found


class _Seen:
    """The counts so far."""

    def __init__(self) -> None:
        self.ids = IdSet()
        self.no_records = self._rows = self._utterances = self._repeated_ids = 0
        self._turns = Numbers()
        self._words = {speaker: Numbers() for speaker in SPEAKERS}
        self._openings = {speaker: Commonest[Run]() for speaker in SPEAKERS}
        self._trigrams = Commonest[Run]()
        self._personas = {speaker: IdSet() for speaker in SPEAKERS}
        self._found: Counter[str] = Counter()
        self._rows_found: Counter[str] = Counter()
        self._recorded: Counter[str] = Counter()
        self._models = Commonest[str](1000)
        self._engines = Commonest[str](1000)
        self._prompt, self._completion, self._per_utterance = Numbers(), Numbers(), Numbers()
        self._sample = Sample()

    def add(self, record: Record) -> None:
        """One more row."""
        self._rows += 1
        self._repeated_ids += not self.ids.add(record.id)
        self._turns.add(record.num_turns)
        self._personas["instructor"].add(record.instructor_persona)
        self._personas["responder"].add(record.responding_persona)
        self._models.add([record.dialogue.model])
        self._engines.add([record.engine])
        self._recorded.update(set(record.findings))
        self._sample.add(record)
        self._add_usage(record)
        of_row: set[str] = set()
        for said in spoken(record):
            tokens = words(said.text)
            self._utterances += 1
            self._words[said.speaker].add(len(tokens))
            self._openings[said.speaker].add([tokens[:3]])
            self._trigrams.add(ngrams(tokens, 3))
            names = findings(said)
            self._found.update(names)
            of_row.update(names)
        self._rows_found.update(of_row)

    def _add_usage(self, record: Record) -> None:
        usage = record.dialogue.usage
        if usage.prompt_tokens is not None:
            self._prompt.add(usage.prompt_tokens)
        if usage.completion_tokens is not None:
            self._completion.add(usage.completion_tokens)
            self._per_utterance.add(
                round(usage.completion_tokens / len(record.dialogue.utterances))
            )

    def answer(self, source: str) -> Stats:
        """What they say."""
        return Stats(
            input=source,
            rows=self._rows,
            no_records=self.no_records,
            repeated_ids=self._repeated_ids,
            utterances=self._utterances,
            turns=self._turns.spread(),
            words={speaker: numbers.spread() for speaker, numbers in self._words.items()},
            tokens=Tokens(
                self._prompt.total,
                self._completion.total,
                self._completion.spread(),
                self._per_utterance.spread(),
            ),
            openings={
                speaker: Openings(
                    table.distinct, table.forgot, _common(table, self._words[speaker].count)
                )
                for speaker, table in self._openings.items()
            },
            trigrams=Trigrams(
                self._trigrams.distinct,
                self._trigrams.missed,
                _common(self._trigrams, self._utterances),
            ),
            findings=tuple(
                Finding(name, utterances, self._rows_found[name])
                for name, utterances in self._found.most_common()
            ),
            recorded=dict(self._recorded.most_common(1000)),
            similarity=self._sample.similarity(),
            personas=Personas(*(len(self._personas[speaker]) for speaker in SPEAKERS)),
            models=dict(self._models.first(SHOWN)),
            engines=dict(self._engines.first(SHOWN)),
        )


def _common(table: Commonest[Run], whole: float) -> tuple[Common, ...]:
    return tuple(Common(" ".join(run), n, n / whole) for run, n in table.first(SHOWN))


def _failures_file(source: str, failures: str | None) -> Path | None:
    """The failures beside an output, if there are any. Raises UsageError."""
    if failures and not Path(failures).is_file():
        raise UsageError(f"{failures}: there is no such file", "check --failures")
    if failures or is_stream(source):
        return Path(failures) if failures else None
    paths = OutputPaths.of(source)
    manifest = Manifest.read(paths.manifest)
    path = paths.output.parent / manifest.failures if manifest else paths.failures
    return path if path.is_file() else None


def _kinds(path: Path, done: IdSet) -> dict[str, int]:
    """How many pairs without a row failed for which reason, by their last line."""
    last = {failure.id: failure.kind for failure in _failures(path) if failure.id not in done}
    return dict(Counter(last.values()).most_common())


def _failures(path: Path) -> Iterator[Failure]:
    """Those that are whole: the last line may be about to be written."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield Failure.from_json(line)
            except InvalidRecord:
                continue
