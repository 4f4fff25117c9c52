"""Every pair: workers share one feed, and each outcome is kept the moment it is there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from magpie_cli.engine import DialogueRequest, Engine, PairRefused, Transient
from magpie_cli.errors import InvalidRecord, MagpieError
from magpie_cli.feed import Feed
from magpie_cli.records import Failure, Outcome, Record, Utterance
from magpie_cli.shutdown import Shutdown
from magpie_cli.store import Store
from magpie_cli.tally import Tally


async def run(  # noqa: PLR0913 - the parts that a run is made of
    feed: Feed[DialogueRequest | Failure],
    engine: Engine,
    store: Store,
    *,
    concurrency: int,
    tally: Tally,
    on_outcome: Callable[[Outcome], None],
    stop: Shutdown,
) -> None:
    """Work until the feed ends or `stop` is requested, with `concurrency` dialogues in flight.

    Raises MagpieError where an outcome cannot be kept. An engine that refuses to go on, an input
    that breaks off, or an utterance that cannot be kept is left in `stop.error`, after the
    dialogues in flight are kept.
    """

    async def worker() -> None:
        while not stop.requested:
            try:
                item = await feed.take()
                if item is None:
                    return
                if task := asyncio.current_task():
                    task.set_name(f"dialogue {item.id}")
                outcome = await _outcome(item, engine, store, tally)
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


async def _outcome(
    item: DialogueRequest | Failure, engine: Engine, store: Store, tally: Tally
) -> Outcome:
    """The record of a request, or why there is none. Raises what ends the whole run."""
    if isinstance(item, Failure):
        return item
    tally.in_flight += 1
    try:
        dialogue = await engine.dialogue(_begun(item, store))
        return Record(
            id=item.id,
            instructor_persona=item.pair.instructor_persona,
            responding_persona=item.pair.responding_persona,
            num_turns=item.num_turns,
            dialogue=dialogue,
            engine=engine.name,
            findings=dialogue.findings,
            metadata=item.pair.metadata,
            system=item.system,
            end=item.end,
        )
    except (Transient, PairRefused) as error:
        transient = isinstance(error, Transient)
        return _failure(item, error.kind, error.message, error.attempts, transient=transient)
    except InvalidRecord as error:
        return _failure(item, "invalid_dialogue", error.message, 1, transient=True)
    finally:
        tally.in_flight -= 1


def _begun(request: DialogueRequest, store: Store) -> DialogueRequest:
    """With what an earlier run has of it, and every utterance kept the moment it is there."""
    had = store.begin(request.id, request.pair, request.num_turns, request.columns)

    def heard(utterance: Utterance) -> None:
        request.on_utterance(utterance)
        store.heard(request.id, utterance)

    return replace(request, utterances=tuple(had.utterances), on_utterance=heard)


def _failure(
    request: DialogueRequest, kind: str, message: str, attempts: int, *, transient: bool
) -> Failure:
    return Failure(
        id=request.id,
        stage="generate",
        kind=kind,
        message=message,
        attempts=attempts,
        transient=transient,
        input=request.pair.line,
    )
