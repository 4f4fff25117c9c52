"""`magpie doctor`: this machine, and each engine: ready, or what it lacks."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from magpie_cli.doctor.engines import Checkup, engines_text, examine_engines
from magpie_cli.doctor.machine import LOCAL, Machine, examine_machine
from magpie_cli.engine import EngineRow
from magpie_cli.engines import ENGINES


@dataclass(frozen=True, slots=True)
class Report:
    """What `magpie doctor` found."""

    machine: Machine
    engines: list[Checkup]

    def text(self) -> str:
        """For a person."""
        return f"{self.machine.text()}\n\n{engines_text(self.engines)}"


def doctor(
    table: Mapping[str, EngineRow] = ENGINES, environment: Mapping[str, str] = os.environ
) -> Report:
    """Look at everything at once; keys are named, never shown."""
    return asyncio.run(_examine(table, environment))


async def _examine(table: Mapping[str, EngineRow], environment: Mapping[str, str]) -> Report:
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(examine_machine(environment))
        asking = group.create_task(examine_engines(table, environment))
    machine, engines = looking.result(), asking.result()
    # A package that is installed is not yet one that works, nor one that has a model.
    engines = [
        replace(each, lacks=machine.local_lacks) if each.engine == LOCAL and each.ready else each
        for each in engines
    ]
    return Report(machine, engines)
