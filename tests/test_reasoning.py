"""What a model thinks before it speaks: kept in a place of its own, and told nobody."""

from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.engines.reasoning import split_reasoning
from tests.chat_server import ChatServer, Fault, answer, refuses, says
from tests.conftest import Magpie, rows_of

Pairs = Callable[..., Path]

PARTED = {
    "a tag": ("<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm."),
    "another tag": ("<thinking>Hm.</thinking> Yes.", "Yes.", "Hm."),
    "a third": ("<reasoning>Hm.</reasoning>Yes.", "Yes.", "Hm."),
    "loud": ("<THINK>Hm.</THINK>Yes.", "Yes.", "Hm."),
    "unopened, as DeepSeek-R1's template leaves it": ("Hm.\n</think>\n\nYes.", "Yes.", "Hm."),
    "unclosed": ("<think>Hm, what if", "", "Hm, what if"),
    "unclosed, after words": ("Yes.\n<think>Hm", "Yes.", "Hm"),
    "empty, as of Qwen3 that is not to think": ("<think>\n\n</think>\n\nYes.", "Yes.", None),
    "twice": ("<think>Hm.</think>Yes. <think>Oh?</think>And no.", "Yes. And no.", "Hm.\n\nOh?"),
    "none": ("  Yes: 1 < 2, and 3 > 2. ", "Yes: 1 < 2, and 3 > 2.", None),
    "spoken of": ("Write `<think>` and `</think>`.", "Write `<think>` and `</think>`.", None),
    "in the middle of a line": ("I <think> so.", "I <think> so.", None),
}


@pytest.mark.parametrize("case", PARTED)
def test_words_and_thoughts_are_told_apart(case: str) -> None:
    """Tags of several kinds, whole and in part; what only looks like one stays."""
    text, words, thought = PARTED[case]
    assert split_reasoning(text) == (words, thought)


def test_thoughts_of_both_places_are_kept() -> None:
    """What the server put beside the words comes first."""
    assert split_reasoning("<think>Oh.</think>Yes.", "Hm.") == ("Yes.", "Hm.\n\nOh.")


PIECES = ["<think>", "</think>", "<reasoning>", "</reasoning>", "`", "\n", "a ", "<", " "]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=50))
def test_any_text_can_be_parted(text: str) -> None:
    """Nothing raises, the words are stripped, and no thought is blank."""
    words, thought = split_reasoning(text)
    assert words == words.strip()
    assert thought is None or thought.strip()


def beside(key: str, text: str | None, thought: object) -> Fault:
    """An answer of a server that knows what reasoning is."""
    whole = answer(text)
    whole["choices"][0]["message"][key] = thought
    return says(whole)


@pytest.mark.parametrize(
    "thinks",
    [
        lambda: says(answer("<think>What would I ask?</think>\n\nWhere is the map of the coast?")),
        lambda: says(answer("What would I ask?\n</think>\n\nWhere is the map of the coast?")),
        lambda: beside(
            "reasoning_content", "Where is the map of the coast?", "What would I ask?\n"
        ),
        lambda: beside("reasoning", "Where is the map of the coast?", "What would I ask?"),
    ],
    ids=["tags", "half a tag", "vLLM, llama.cpp, DeepSeek", "Ollama, OpenRouter"],
)
def test_reasoning_has_a_place_of_its_own(
    thinks: Callable[[], Fault], tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """It is in the row, one entry an utterance; in no utterance, and in no later message."""
    pairs(1)
    plain = says(answer("In the long drawer under the stairs."))
    server.faults = iter([thinks(), plain, None, None])
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-t", "2")
    assert magpie(*command).returncode == 0
    [row] = rows_of(tmp_path / "out.jsonl")
    assert row["reasoning"] == ["What would I ask?", None, None, None]
    assert row["dialogue"][0] == {"instructor": "Where is the map of the coast?"}
    assert "think" not in str([asked.body["messages"] for asked in server.asked])
    assert "What would I ask?" not in str([asked.body["messages"] for asked in server.asked])


def test_no_reasoning_is_null(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """Where no utterance has any, nor where a server says something else under its name."""
    pairs(2)
    server.faults = iter([beside("reasoning", "Where is the map?", {"effort": 1})])
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl")
    assert magpie(*command).returncode == 0
    assert [row["reasoning"] for row in rows_of(tmp_path / "out.jsonl")] == [None, None]


@pytest.mark.parametrize(
    "empty",
    [
        says(answer("<think>What would I ask? Perhaps", "length")),
        says(answer("<think>Nothing.</think>")),
        beside("reasoning_content", None, "What would I ask?"),
    ],
    ids=["cut off", "only thought", "only beside"],
)
def test_thought_alone_is_no_utterance(
    empty: Fault, tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """It is asked for again, and where nothing else comes the pair fails, and may pass later."""
    pairs(2)
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-j", "1")
    server.faults = iter([empty])
    assert magpie(*command).returncode == 0
    assert len(server.asked) == 1 + 4
    server.faults = repeat(empty, 6)
    assert magpie(*command, "--fresh").returncode == 3
    [failure] = rows_of(tmp_path / "out.failures.jsonl")
    assert (failure["kind"], failure["attempts"], failure["transient"]) == ("empty_reply", 6, True)
    assert "but for its reasoning" in failure["message"]
    assert ("--max-tokens" in failure["message"]) == ("'length'" in failure["message"])


def test_reasoning_outlives_a_crash(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """I4: what was thought in an earlier run stands in the row of the next."""
    pairs(1)
    thinks = says(answer("<think>Hm.</think>Where is the map of the coast?"))
    server.faults = chain([thinks], repeat(refuses(401)))
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-t", "2")
    assert magpie(*command).returncode == 1
    server.faults = iter(())
    assert magpie(*command).returncode == 0
    assert rows_of(tmp_path / "out.jsonl")[0]["reasoning"] == ["Hm.", None, None, None]
