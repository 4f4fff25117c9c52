"""A dialogue that is asked for, and the tasks that were sent for it."""

import asyncio
import math
from dataclasses import dataclass, field

from magpie_cli.engines.dria.answers import Answer
from magpie_cli.engines.dria.nodes import Node


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One attempt. `private_key` opens the answer of `node`; the time is the event loop's."""

    id: str
    node: Node
    private_key: str
    overdue_at: float


@dataclass(slots=True, eq=False)
class Asked:
    """A dialogue of so many utterances, and all that was done for it.

    `tasks` are those sent, `tried` the nodes that failed, `refused` those that called the prompt
    invalid; `pending` is the last task until it has failed or is overdue. `news` is set where there
    is an `answer`, or a `failure` to be raised.
    """

    number: int
    tasks: dict[str, Task] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    pending: Task | None = None
    answer: Answer | None = None
    failure: BaseException | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    forget_at: float = math.inf  # while somebody asks

    def hear(self) -> None:
        """What was told is known now."""
        self.failure = None
        self.news.clear()

    def tell(self, failure: BaseException | None = None) -> None:
        """Wake whoever waits."""
        self.failure = failure
        self.news.set()
