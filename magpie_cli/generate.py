"""`magpie generate`: a dialogue for every pair."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from magpie_cli.course import Given, Opened, follow
from magpie_cli.engine import DialogueRequest
from magpie_cli.engines import find_row, open_engine, prompts_name
from magpie_cli.plan import plan_dialogues
from magpie_cli.prompts import control_tokens, own_prompts
from magpie_cli.records import Outcome
from magpie_cli.run import Attempt, dialogues
from magpie_cli.settings import Settings
from magpie_cli.store import Store
from magpie_cli.summary import Summary


def generate(settings: Settings) -> Summary:
    """Make every dialogue that is not there yet, and show how it goes.

    Whatever ended it, an error or a signal, stands in the summary.
    """
    return follow(settings, _making, "made")


@asynccontextmanager
async def _making(given: Given) -> AsyncIterator[Opened[DialogueRequest]]:
    """Dialogues of pairs."""
    settings, source, tally = given.settings, given.source, given.tally
    prompts = own_prompts()
    longest = max(settings.turns, source.most_turns)
    heard = replace(settings, turns=longest)  # an engine may have to make room
    async with open_engine(given.engine, heard, prompts, given.pace, say=given.say) as engine:
        told = prompts_name(find_row(given.engine), prompts)

        def attempt(store: Store) -> Attempt[DialogueRequest]:
            make = dialogues(engine, store)

            async def counted(request: DialogueRequest) -> Outcome:
                tally.control_tokens += control_tokens(request.pair)
                return await make(request)

            return counted

        yield Opened(
            engine.name,
            engine.model,
            lambda model: settings.identity(engine.name, model, told),
            lambda store: plan_dialogues(source.pairs(), settings, store.done, tally, store.failed),
            attempt,
        )
