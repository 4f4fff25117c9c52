"""Every line: workers share one feed, and each outcome is kept the moment it is there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from magpie_cli.engine import DialogueRequest, Engine, PairRefused, Transient
from magpie_cli.errors import InvalidRecord, MagpieError
from magpie_cli.feed import Feed
from magpie_cli.plan import Named
from magpie_cli.records import Failure, Outcome, Record, Utterance
from magpie_cli.shutdown import Shutdown
from magpie_cli.store import Store
from magpie_cli.tally import Tally

_R = TypeVar("_R", bound=Named)
Attempt = Callable[[_R], Awaitable[Outcome]]


async def run(  # noqa: PLR0913 - the parts that a run is made of
    feed: Feed[_R | Failure],
    attempt: Attempt[_R],
    store: Store,
    *,
    concurrency: int,
    tally: Tally,
    on_outcome: Callable[[Outcome], None],
    stop: Shutdown,
) -> None:
    """Work until the feed ends or `stop` is requested, with `concurrency` attempts in flight.

    Raises MagpieError where an outcome cannot be kept. What `attempt` raises (an engine that
    refuses to go on, an utterance that cannot be kept), and an input that breaks off, is left in
    `stop.error`, after what is in flight is kept.
    """

    async def worker() -> None:
        while not stop.requested:
            try:
                item = await feed.take()
                if item is None:
                    return
                outcome = await _outcome(item, attempt, tally)
            except MagpieError as error:
                stop.refuse(error)
                return
            await store.write(outcome)
            tally.settled(outcome)
            on_outcome(outcome)

    stop.listeners.insert(0, lambda _: feed.close())
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker())
    except* MagpieError as group:
        store_errors = group.exceptions
    else:
        return
    raise store_errors[0]


async def _outcome(item: _R | Failure, attempt: Attempt[_R], tally: Tally) -> Outcome:
    if isinstance(item, Failure):
        return item
    if task := asyncio.current_task():
        task.set_name(f"dialogue {item.id}")
    tally.in_flight += 1
    try:
        return await attempt(item)
    finally:
        tally.in_flight -= 1


def dialogues(engine: Engine, store: Store) -> Attempt[DialogueRequest]:
    """The attempt of `generate`: the record of a request, or why there is none.

    Raises what ends the whole run.
    """

    async def attempt(request: DialogueRequest) -> Outcome:
        try:
            dialogue = await engine.dialogue(_begun(request, store))
            return Record(
                id=request.id,
                instructor_persona=request.pair.instructor_persona,
                responding_persona=request.pair.responding_persona,
                num_turns=request.num_turns,
                dialogue=dialogue,
                engine=engine.name,
                findings=dialogue.findings,
                metadata=request.pair.metadata,
                system=request.system,
                end=request.end,
            )
        except (Transient, PairRefused) as error:
            return failed(error, request.id, "generate", request.pair.line)
        except InvalidRecord as error:
            poor = Transient("invalid_dialogue", error.message)
            return failed(poor, request.id, "generate", request.pair.line)

    return attempt


def _begun(request: DialogueRequest, store: Store) -> DialogueRequest:
    """With what an earlier run has of it, and every utterance kept the moment it is there."""
    had = store.begin(request.id, request.pair, request.num_turns, request.columns)

    def heard(utterance: Utterance) -> None:
        request.on_utterance(utterance)
        store.heard(request.id, utterance)

    return replace(request, utterances=tuple(had.utterances), on_utterance=heard)


def failed(error: Transient | PairRefused, id_: str, stage: str, line: str) -> Failure:
    """Why an attempt came to nothing; `line` is the line of the input as it was read."""
    return Failure(
        id=id_,
        stage=stage,
        kind=error.kind,
        message=error.message,
        attempts=error.attempts,
        transient=isinstance(error, Transient),
        input=line,
    )
