"""What is to do: the dialogues of every pair, less those that an earlier run has made."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from magpie_cli.engine import DialogueRequest
from magpie_cli.ids import IdSet, Shard, sample_id
from magpie_cli.personas import DonePair, PairReader
from magpie_cli.prompts import Prompts, own_prompts
from magpie_cli.records import Failure, PersonaPair
from magpie_cli.settings import Settings, TurnRange
from magpie_cli.store import FailedBefore
from magpie_cli.tally import Tally

LONG_STRETCH = 500  # dialogues that are done already


class Named(Protocol):
    """What has an id: a pair, a row, a request."""

    @property
    def id(self) -> str:
        """Its own."""
        ...


_N = TypeVar("_N", bound=Named)
_N_co = TypeVar("_N_co", bound=Named, covariant=True)
_R = TypeVar("_R", bound=Named)


class Reader(Protocol[_N_co]):
    """Iterates over an input: what each good line holds, a Failure each bad one.

    A DonePair where `is_done`, which may be set, says so of the id.
    """

    is_done: Callable[[str], bool]

    def __iter__(self) -> Iterator[_N_co | Failure | DonePair]:
        """One for each line that is not blank."""
        ...


class Plan(Generic[_N, _R]):
    """Iterates over what is to do: a request each, and a Failure each unreadable line.

    Now and then a None, while it passes over a long stretch that is done.

    `pairs` counts the pairs read so far, `expected` all outcomes that they and the unreadable lines
    are to have, the skipped ones too; those of other shards are not in it. `exhausted` turns true
    when the input is through; it stays false when --limit ends the iteration before.

    `failed` are the ids that an earlier run failed at. Those that --retry-failed names are tried
    again, and then stand in `tried`; the others in `passed_over`. Under --limit, where it names
    none, all are passed over: a batch must not spend itself on the same pairs for ever.

    `request` makes a request of what the reader gives and the id that its row is to have.
    """

    def __init__(  # noqa: PLR0913 - all that decides what is to do
        self,
        reader: Reader[_N],
        request: Callable[[_N, str], _R],
        settings: Settings,
        done: IdSet,
        tally: Tally,
        *,
        failed: FailedBefore | None = None,
    ) -> None:
        self.pairs = 0
        self.expected = 0
        self.exhausted = False
        self.tried = IdSet()
        self.passed_over = IdSet()
        self._reader = reader
        self._request = request
        reader.is_done = self._is_done if settings.samples > 1 else done.__contains__
        self._settings = settings
        self._samples = range(1, settings.samples + 1)
        self._done = done
        self._failed = failed or FailedBefore()
        self._retry = settings.retry_failed or ("none" if settings.limit else "transient")
        self._tally = tally
        self._shard = Shard.parse(settings.shard) if settings.shard else None
        self._begun = 0
        self._is_full = False

    def __iter__(self) -> Iterator[_R | Failure | None]:
        for pair in self._reader:
            if self._shard and not self._shard.has(pair.id):
                continue
            if isinstance(pair, DonePair):
                if self._pass_over(len(self._samples)):
                    yield None
                continue
            yield from self._of(pair)
            if self._is_full:
                return
        self.exhausted = True

    def _of(self, pair: _N | Failure) -> Iterator[_R | Failure]:
        """What is to do for one line; nothing more once --limit is reached."""
        is_pair = not isinstance(pair, Failure)
        self.pairs += is_pair
        for sample in self._samples if is_pair else (1,):
            self.expected += 1
            id_ = sample_id(pair.id, sample)
            if id_ in self._done:
                self._tally.skipped += 1
                continue
            item = pair if isinstance(pair, Failure) else self._request(pair, id_)
            if item.id in self._failed:
                if not isinstance(item, Failure) and not self._tries_again(item.id):
                    self.passed_over.add(item.id)
                    self._tally.passed_over()
                    continue
                self.tried.add(item.id)
            if not isinstance(item, Failure):
                if self._begun == self._settings.limit:
                    self._is_full = True
                    return
                self._begun += 1
            yield item

    def _is_done(self, pair_id: str) -> bool:
        return all(sample_id(pair_id, sample) in self._done for sample in self._samples)

    def _pass_over(self, dialogues: int) -> bool:
        """A pair that has them all; whether it is time for a None."""
        self.pairs += 1
        self.expected += dialogues
        before = self._tally.skipped // LONG_STRETCH
        self._tally.skipped += dialogues
        return self._tally.skipped // LONG_STRETCH > before

    def _tries_again(self, id_: str) -> bool:
        if self._retry == "transient":
            return self._failed.may_pass(id_)
        return self._retry == "all"


def plan_dialogues(  # noqa: PLR0913 - as Plan
    reader: PairReader,
    settings: Settings,
    done: IdSet,
    tally: Tally,
    *,
    failed: FailedBefore | None = None,
    prompts: Prompts | None = None,
) -> Plan[PersonaPair, DialogueRequest]:
    """The dialogues of every pair; `prompts` are magpie's own where none are given."""
    told = prompts or own_prompts()
    columns = tuple(told.columns)

    def request(pair: PersonaPair, id_: str) -> DialogueRequest:
        num_turns = pair.num_turns or drawn_turns(settings.turns, settings.seed, id_)
        return DialogueRequest(
            id=id_,
            pair=pair,
            num_turns=num_turns,
            seed=dialogue_seed(settings.seed, id_),
            on_utterance=tally.heard,
            end=settings.end,
            system=told.system_line(pair, num_turns),
            columns=tuple(pair.metadata[name] for name in columns),
        )

    return Plan(reader, request, settings, done, tally, failed=failed)


def drawn_turns(turns: TurnRange, run_seed: int | None, id_: str) -> int:
    """One of the range for each dialogue, the same whenever `run_seed` is."""
    if turns.least == turns.most:
        return turns.least
    digest = hashlib.sha256(f"turns:{run_seed}:{id_}".encode()).digest()
    return turns.least + int.from_bytes(digest[:8], "big") % (turns.most - turns.least + 1)


def dialogue_seed(run_seed: int | None, id_: str) -> int | None:
    """A seed for each dialogue, 0 to 2**31 - 2**16, the same whenever `run_seed` is."""
    if run_seed is None:
        return None
    digest = hashlib.sha256(f"{run_seed}:{id_}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % (2**31 - 2**16)
