"""What a node does with a workflow, step by step.

Semantics: https://github.com/andthattoo/ollama-workflows (src/program/executor.rs), which nodes of
the SDK's time ran: from `steps[0]` on, a step's task is done, then its condition picks the next
task, until one has no step. Placeholders are filled by replacing `{key}`, one key after another.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from magpie_cli.engine import Message

DEFAULT_MAX_TOKENS = 250  # of an utterance, where a workflow does not say

# What a workflow that is none may raise on its way.
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)

_RESULT = "__result"
Writer = Callable[[Sequence[Message], int], Awaitable[str]]

_NUMBERS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThan": lambda value, expected: value > expected,
    "LessThan": lambda value, expected: value < expected,
    "GreaterThanOrEqual": lambda value, expected: value >= expected,
    "LessThanOrEqual": lambda value, expected: value <= expected,
}
_TEXTS: Mapping[str, Callable[[str, str], bool]] = {
    "Equal": lambda value, expected: value == expected,
    "NotEqual": lambda value, expected: value != expected,
    "Contains": lambda value, expected: expected in value,
    "NotContains": lambda value, expected: expected not in value,
}


class WorkflowFailed(Exception):  # noqa: N818 - as a node reports it
    """Why a workflow has no result, in the words of a node."""


async def execute(workflow: Mapping[str, Any], write: Writer) -> str:
    """The return value of `workflow`, its texts by `write(messages, max_tokens)`.

    Raises WorkflowFailed; one of MALFORMED where it is no workflow.
    """
    config = workflow["config"]
    tasks = {task["id"]: task for task in workflow["tasks"]}
    steps: dict[str, Any] = {}
    for step in workflow["steps"]:
        steps.setdefault(step["source"], step)
    memory = _Memory(workflow.get("external_memory") or {})
    step = workflow["steps"][0]
    count, end = 0, time.monotonic() + config["max_time"]
    while step and count < config["max_steps"] and time.monotonic() < end:
        try:
            await _do(tasks[step["source"]], memory, write, config.get("max_tokens"))
            step = steps.get(_next(step, memory))
        except WorkflowFailed:
            if not step.get("fallback"):
                raise
            step = steps.get(step["fallback"])
        count += 1
    if count >= config["max_steps"]:  # even where that was the last step
        raise WorkflowFailed("Max steps reached")
    if time.monotonic() >= end:
        raise WorkflowFailed("Max time reached")
    return _return_value(workflow["return_value"], memory)


class _Memory:
    """Values and stacks of values, by key; every value is a text."""

    def __init__(self, external: Mapping[str, object]) -> None:
        self.values: dict[str, str] = {}
        self.stacks: dict[str, list[str]] = {}
        for key, value in external.items():
            if isinstance(value, list):
                self.stacks[key] = [_entry(item) for item in value]
            else:
                self.values[key] = _entry(value)

    def read(self, source: Mapping[str, Any]) -> str | list[str] | None:
        """What an input's `value` names; None where there is nothing."""
        kind, key = source["type"], source["key"]
        stack = self.stacks.get(key)
        if kind == "read":
            return self.values.get(key)
        if kind == "get_all":
            return stack
        if kind == "size":
            return str(len(stack or ()))
        if kind == "pop":
            return stack.pop() if stack else None
        if kind == "peek":
            index = source.get("index") or 0
            return stack[index] if stack and index < len(stack) else None
        if kind == "string":
            return str(key)
        raise WorkflowFailed(f"an input of the kind {kind!r} is not supported on a devnet")

    def put(self, output: Mapping[str, Any], result: str) -> None:
        """Do what a task's output says."""
        text = result if output["value"] == _RESULT else str(output["value"])
        if output["type"] == "write":
            self.values[output["key"]] = text
        elif output["type"] == "push":
            self.stacks.setdefault(output["key"], []).append(text)
        else:
            kind = output["type"]
            raise WorkflowFailed(f"an output of the kind {kind!r} is not supported on a devnet")


async def _do(
    task: Mapping[str, Any], memory: _Memory, write: Writer, max_tokens: int | None
) -> None:
    inputs: dict[str, str] = {}
    for entry in task["inputs"]:
        value = memory.read(entry["value"])
        if value is None and entry["required"]:
            raise WorkflowFailed(f"the input {entry['name']!r} is missing")
        inputs[entry["name"]] = _text(value)
    if task["operator"] == "end":
        return
    if task["operator"] != "generation":
        raise WorkflowFailed(f"{task['operator']!r} is not supported on a devnet")
    messages: list[Message] = [
        {"role": message["role"], "content": _fill(message["content"], inputs)}
        for message in task["messages"]
    ]
    result = _entry(await write(messages, max_tokens or DEFAULT_MAX_TOKENS))
    for output in task["outputs"]:
        memory.put(output, result)


def _fill(template: str, inputs: Mapping[str, str]) -> str:
    for name, value in inputs.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _text(value: str | list[str] | None) -> str:
    """As it stands in a prompt: each entry of a stack on a line of its own."""
    if isinstance(value, list):
        return "".join(f"{entry} \n" for entry in value)
    return value or ""


def _entry(value: object) -> str:
    """A text as a node keeps it: what happens to be JSON loses its spaces."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):  # no JSON, or nested too deep to be any
        return value


def _next(step: Mapping[str, Any], memory: _Memory) -> str:
    condition = step.get("condition")
    if not condition:
        return str(step["target"])
    value, expected = _text(memory.read(condition["input"])), condition["expected"]
    expression = condition["expression"]
    if expression in _NUMBERS:
        met = _NUMBERS[expression](float(value or 0), float(expected))
    elif expression in _TEXTS:
        met = _TEXTS[expression](value, expected)
    else:
        raise WorkflowFailed(f"{expression!r} is not supported on a devnet")
    return str(step["target"] if met else condition["target_if_not"])


def _return_value(wanted: Mapping[str, Any], memory: _Memory) -> str:
    source = wanted["input"]
    value = memory.read(source[0] if isinstance(source, list) else source)
    if wanted.get("post_process"):
        raise WorkflowFailed("post_process is not supported on a devnet")
    if wanted.get("to_json"):
        return json.dumps(value, ensure_ascii=False)
    return _text(value)
