"""datatrove: an InferenceRunner whose rollout is a whole dialogue, with checkpoints.

Without checkpoints (and without its cache of requests) a crash loses everything, and it is faster.
The address is written so that datatrove sees loopback, and uses its own lean client.
"""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from common import MAX_TOKENS, TIMEOUT, messages, read_arguments

os.environ["HF_HUB_OFFLINE"] = "1"

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import (
    InferenceConfig,
    InferenceRunner,
)
from datatrove.pipeline.readers.jsonl import (
    JsonlReader,
)
from datatrove.pipeline.writers import JsonlWriter

ROWS_PER_CHUNK = 500


def main() -> None:
    """Make the rows in a folder of its own, then as every contender has them."""
    arguments = read_arguments(__doc__)
    folder = arguments.out.with_suffix(".datatrove")

    async def rollout(document: Any, generate: Callable[..., Awaitable[Any]]) -> dict[str, Any]:  # noqa: ANN401 - its own class
        said: list[str] = []
        for _ in range(2 * arguments.turns):
            asked = {"messages": messages(document.metadata, said), "max_tokens": MAX_TOKENS}
            said.append((await generate(asked)).text)
        return {"turns": said}

    reader = JsonlReader(
        str(arguments.prompts.parent), glob_pattern=arguments.prompts.name, text_key="opener"
    )
    reader.adapter = lambda line, *_: {
        "text": line["opener"],
        "id": line["id"],
        "metadata": line,
    }
    runner = InferenceRunner(
        rollout_fn=rollout,
        config=InferenceConfig(
            server_type="endpoint",
            endpoint_url=arguments.base_url.removesuffix("/v1"),
            model_name_or_path="mock",
            max_concurrent_generations=arguments.j,
            max_concurrent_documents=arguments.j,
            api_key="none",
            request_timeout=TIMEOUT,
            metric_interval=600,
        ),
        output_writer=JsonlWriter(
            f"{folder}/rows",
            output_filename="${rank}_${chunk_index}.jsonl",
            compression=None,
        ),
        checkpoints_local_dir=f"{folder}/checkpoints",
        records_per_chunk=ROWS_PER_CHUNK,
    )
    LocalPipelineExecutor(
        pipeline=[reader, runner], tasks=1, workers=1, logging_dir=f"{folder}/logs"
    ).run()
    with arguments.out.open("w") as out:
        for path in (folder / "rows").glob("*.jsonl"):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                turns = row["metadata"]["rollout_results"][0]["turns"]
                out.write(json.dumps({"id": row["id"], "turns": turns}) + "\n")


if __name__ == "__main__":
    main()
