"""The SDK's MagPie workflow for one pair, as JSON.

Node semantics: https://github.com/andthattoo/ollama-workflows . A workflow that ends in exactly
`max_steps` steps counts as failed; without `max_tokens` an utterance is cut at 250 tokens; a
string in the external memory is a value, a list of strings is a stack.
"""

import math
import re
from typing import Any

from magpie_cli.engine import DialogueRequest
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.prompts import inert

UNCUT = 2048  # tokens of an utterance where the user sets no limit

# Nodes fill a template by replacing `{key}`, again in what they have put in before.
_PLACEHOLDER = re.compile(r"\{(instructor_persona|responding_persona|chat)\}")


class Workflows:
    """Builds workflows: the SDK takes 2 ms for one, so each number of turns is built once.

    `timeout` in seconds, `max_tokens` of an utterance.
    """

    def __init__(self, sdk: Sdk, timeout: float, max_tokens: int | None) -> None:
        self._sdk = sdk
        self._max_time = math.ceil(timeout)
        self._max_tokens = max_tokens or UNCUT
        self._built: dict[int, dict[str, Any]] = {}

    def fill(self, request: DialogueRequest) -> dict[str, Any]:
        """The workflow of `request`; it goes on after the utterances that are there already."""
        turns = request.num_turns
        had = [utterance.text for utterance in request.utterances]
        workflow = self._built.get(turns)
        if workflow is None:
            workflow = self._built[turns] = self._sdk.workflow(turns)
            workflow["config"] |= {
                "max_steps": 2 * turns + 1,
                "max_time": self._max_time,
                "max_tokens": self._max_tokens,
            }
        memory: dict[str, str | list[str]] = {
            "instructor_persona": _harmless(request.pair.instructor_persona),
            "responding_persona": _harmless(request.pair.responding_persona),
        }
        if had:
            memory |= {"chat": had, "instruction": had[::2], "responses": had[1::2]}
        steps = workflow["steps"]
        if len(had) % 2:  # the first step is where a node begins
            steps = steps[::-1]
        return workflow | {"external_memory": memory, "steps": steps}


def _harmless(persona: str) -> str:
    """The persona with spaces in what a node, or its model, would take for its own.

    Also where it becomes one only between the braces of the template that it is put into.
    """
    return _PLACEHOLDER.sub(r"{ \1 }", f"{{{inert(persona)}}}")[1:-1]
