"""What the chat templates of four families make of messages, and what they refuse.

After the `chat_template` of google/gemma-2-9b-it, meta-llama/Meta-Llama-3-8B-Instruct,
Qwen/Qwen2.5-7B-Instruct (ChatML) and mistralai/Mistral-7B-Instruct-v0.1 and v0.3, in our own words.
"""

from collections.abc import Callable, Sequence
from itertools import cycle

from magpie_cli.engine import Message

Template = Callable[[Sequence[Message]], str]


class TemplateError(Exception):
    """As a template raises it; a server passes the words on with a 400."""


def chatml(messages: Sequence[Message]) -> str:
    """Each message between the same two tokens, whatever its role."""
    _check(messages, "after the optional system message, roles must alternate", system=True)
    said = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return "".join(said) + "<|im_start|>assistant\n"


def llama3(messages: Sequence[Message]) -> str:
    """The role between two tokens, the content stripped."""
    _check(messages, "after the optional system message, roles must alternate", system=True)

    def header(role: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n"

    said = [f"{header(m['role'])}{m['content'].strip()}<|eot_id|>" for m in messages]
    return "<|begin_of_text|>" + "".join(said) + header("assistant")


def gemma(messages: Sequence[Message]) -> str:
    """Two roles, the second of which is called model."""
    if messages[0]["role"] == "system":
        raise TemplateError("System role not supported")
    _check(messages, "Conversation roles must alternate user/assistant/user/assistant/...")
    names = {"user": "user", "assistant": "model"}
    said = [
        f"<start_of_turn>{names[m['role']]}\n{m['content'].strip()}<end_of_turn>\n"
        for m in messages
    ]
    return "<bos>" + "".join(said) + "<start_of_turn>model\n"


def old_mistral(messages: Sequence[Message]) -> str:
    """The user's words between marks, the assistant's up to the end token."""
    _check(messages, "Conversation roles must alternate user/assistant/user/assistant/...")
    said = [
        f"[INST] {m['content']} [/INST]" if m["role"] == "user" else f"{m['content']}</s>"
        for m in messages
    ]
    return "<s>" + "".join(said)


def mistral(messages: Sequence[Message]) -> str:
    """As the old one, the system message in front of the user's last words."""
    _check(messages, "After the optional system message, roles must alternate", system=True)
    if messages[0]["role"] == "system":
        system, *rest = messages
        last: Message = {"role": "user", "content": f"{system['content']}\n\n{rest[-1]['content']}"}
        messages = [*rest[:-1], last]
    return old_mistral(messages)


TEMPLATES: dict[str, Template] = {
    "chatml": chatml,
    "llama3": llama3,
    "gemma": gemma,
    "old mistral": old_mistral,
    "mistral": mistral,
}
NO_SYSTEM = ("gemma", "old mistral")


def _check(messages: Sequence[Message], words: str, *, system: bool = False) -> None:
    """User and assistant in turn, the user first and last; a system message at most in front."""
    roles = [message["role"] for message in messages]
    if system and roles[:1] == ["system"]:
        roles = roles[1:]
    turns = zip(roles, cycle(("user", "assistant")), strict=False)
    if len(roles) % 2 == 0 or any(role != due for role, due in turns):
        raise TemplateError(words)
    if not all(message["content"].strip() for message in messages):
        raise TemplateError("a message is empty")
