"""What a model thought before it spoke: it has a place of its own, and is never said aloud.

Servers put it beside the words: `reasoning_content` (vLLM, llama.cpp, DeepSeek) or `reasoning`
(Ollama, OpenRouter, newer vLLM). Those that do not know it leave it in front of them, in tags:
`<think>` of DeepSeek-R1 and Qwen3, and its like.
"""

import re
from collections.abc import Mapping

_NAMES = "think|thinking|thought|reasoning"
# A tag that somebody speaks of stands in quotation marks.
_PAIR = re.compile(rf"(?<![`'\"])<({_NAMES})>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
# A template that ends in the opening tag leaves the closing one alone, as DeepSeek-R1's does.
_UNOPENED = re.compile(rf"\A()(.*?)(?<![`'\"])</(?:{_NAMES})>", re.IGNORECASE | re.DOTALL)
# The limit of tokens came in the middle of it.
_UNCLOSED = re.compile(rf"^[ \t]*<({_NAMES})>(.*)\Z", re.IGNORECASE | re.DOTALL | re.MULTILINE)


def split_reasoning(text: str, apart: str | None = None) -> tuple[str, str | None]:
    """The words, stripped, and what was thought, None for nothing; `apart` is what came beside.

    The words are empty where there is nothing but thought.
    """
    thoughts = [apart] if apart else []

    def take(found: re.Match[str]) -> str:
        thoughts.append(found[2])
        return ""

    if "<" in text:
        for pattern in (_PAIR, _UNOPENED, _UNCLOSED):
            text = pattern.sub(take, text)
    if not thoughts:
        return text.strip(), None
    stripped = (thought.strip() for thought in thoughts)
    return text.strip(), "\n\n".join(filter(None, stripped)) or None


def beside(message: Mapping[str, object]) -> str | None:
    """What stands beside the words of a message, or of a piece of one."""
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else None
