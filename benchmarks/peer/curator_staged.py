"""curator: one pass over all dialogues for each utterance, which is its own way of doing many.

tiktoken, with which it counts tokens, would fetch its tables from the net: the stand-in is cheaper.
"""

import json
import os
from typing import Any

from common import MAX_TOKENS, TIMEOUT, TRIES, messages, read_arguments, read_prompts

ARGUMENTS = read_arguments(__doc__)
os.environ |= {
    "ANONYMIZED_TELEMETRY": "false",
    "CURATOR_CACHE_DIR": str(ARGUMENTS.out.with_suffix(".curator")),
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "CURATOR_VIEWER": "0",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_API_KEY": "none",
    "TELEMETRY_ENABLED": "false",
}

import tiktoken  # noqa: E402 - after the environment, as below


class _Encoding:
    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * (len(text) // 4)


tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *_, **__: _Encoding()

from bespokelabs import curator  # noqa: E402
from datasets import Dataset  # noqa: E402

BACKEND = {
    "base_url": ARGUMENTS.base_url,
    "api_key": "none",
    "max_concurrent_requests": ARGUMENTS.j,
    "max_requests_per_minute": 10_000_000,
    "max_tokens_per_minute": 10_000_000_000,
    "request_timeout": TIMEOUT,
    "max_retries": TRIES,
    "require_all_responses": False,
}

Row = dict[str, str]


class Utterance(curator.LLM):  # type: ignore[misc] # its base is not installed here
    """The next one of each dialogue."""

    def prompt(self, row: Row) -> list[dict[str, str]]:
        """The messages for a row."""
        return messages(json.loads(row["prompt"]), json.loads(row["said"]))

    def parse(self, row: Row, response: str) -> Row:
        """The row with the answer."""
        return row | {"said": json.dumps([*json.loads(row["said"]), response])}


def main() -> None:
    """Make the rows, and write them when all are there."""
    rows: Any = Dataset.from_list(
        [
            {"id": prompt["id"], "prompt": json.dumps(prompt), "said": "[]"}
            for prompt in read_prompts(ARGUMENTS.prompts)
        ]
    )
    for _ in range(2 * ARGUMENTS.turns):
        answer = Utterance(
            model_name="mock",
            backend="openai",
            backend_params=BACKEND,
            generation_params={"max_tokens": MAX_TOKENS},
        )(rows)
        rows = getattr(answer, "dataset", answer)
    with ARGUMENTS.out.open("w") as out:
        for row in rows:
            out.write(json.dumps({"id": row["id"], "turns": json.loads(row["said"])}) + "\n")


if __name__ == "__main__":
    main()
