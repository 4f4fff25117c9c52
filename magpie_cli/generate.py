"""`magpie generate`: a dialogue for every pair."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from magpie_cli.course import Given, Opened, Prepared, follow
from magpie_cli.engine import DialogueRequest
from magpie_cli.engines import find_row, open_engine, prompts_name
from magpie_cli.plan import Plan, plan_dialogues
from magpie_cli.prompt_files import read_prompts
from magpie_cli.prompts import Prompts, control_tokens
from magpie_cli.records import Outcome, PersonaPair
from magpie_cli.run import Attempt, dialogues
from magpie_cli.settings import Settings, TurnRange
from magpie_cli.store import Store
from magpie_cli.summary import Summary


def generate(settings: Settings) -> Summary:
    """Make every dialogue that is not there yet, and show how it goes.

    Whatever ended it, an error or a signal, stands in the summary.
    """

    def prepare() -> Prepared:
        prompts = read_prompts(settings.prompts, settings.system)
        return Prepared(partial(_making, prompts=prompts), prompts.columns)

    return follow(settings, prepare, "made")


@asynccontextmanager
async def _making(given: Given, prompts: Prompts) -> AsyncIterator[Opened[DialogueRequest]]:
    """Dialogues of pairs."""
    settings, source, tally = given.settings, given.source, given.tally
    longest = max(settings.turns.most, source.most_turns)
    # An engine may have to make room.
    heard = replace(settings, turns=TurnRange(longest, longest))
    async with open_engine(given.engine, heard, prompts, given.pace, say=given.say) as engine:
        told = prompts_name(find_row(given.engine), prompts)
        columns = tuple(prompts.columns)

        def attempt(store: Store) -> Attempt[DialogueRequest]:
            make = dialogues(engine, store)

            async def counted(request: DialogueRequest) -> Outcome:
                tally.control_tokens += control_tokens(request.pair, columns)
                return await make(request)

            return counted

        def plan(store: Store) -> Plan[PersonaPair, DialogueRequest]:
            pairs, done = source.pairs(), store.done
            return plan_dialogues(
                pairs, settings, done, tally, failed=store.failed, prompts=prompts
            )

        yield Opened(
            engine.name,
            engine.model,
            lambda hide: (
                settings.identity(engine.name, hide(engine.model), told) | prompts.identity(hide)
            ),
            plan,
            attempt,
        )
