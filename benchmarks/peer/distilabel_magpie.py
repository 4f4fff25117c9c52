"""distilabel: its Magpie task over several turns, one batch of dialogues after another.

Magpie takes only models with MagpieChatTemplateMixin, which OpenAILLM lacks: the class below adds
it and, where the last message is not the user's, turns the roles round for the instructor.
"""

import os
from typing import Any

from common import MAX_TOKENS, TIMEOUT, TRIES, read_arguments, read_prompts

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

from distilabel.models.llms import (
    OpenAILLM,
)
from distilabel.models.mixins.magpie import (
    MagpieChatTemplateMixin,
)
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import Magpie

OTHER = {"user": "assistant", "assistant": "user", "system": "system"}


class BothSpeakers(OpenAILLM, MagpieChatTemplateMixin):  # type: ignore[misc] # its bases are not installed here
    """Speaks for the responder, and for the instructor where it is that one's turn."""

    async def agenerate(
        self,
        input: list[dict[str, str]],  # noqa: A002 - distilabel's name
        num_generations: int = 1,  # noqa: ARG002 - as above
        max_new_tokens: int = MAX_TOKENS,
    ) -> Any:  # noqa: ANN401 - distilabel's own class
        """One completion."""
        if input[-1]["role"] != "user":
            input = [{"role": OTHER[m["role"]], "content": m["content"]} for m in input]  # noqa: A001 - as above
            input.insert(1, {"role": "user", "content": "Begin."})
        completion = await self._aclient.chat.completions.create(
            messages=input, model=self.model, max_tokens=max_new_tokens
        )
        return self._generations_from_openai_completion(completion)


def main() -> None:
    """Make the rows, and write them when all are there."""
    arguments = read_arguments(__doc__)
    data = [
        {"id": prompt["id"], "system_prompt": prompt["instructor"]}
        for prompt in read_prompts(arguments.prompts)
    ]
    cache = arguments.out.with_suffix(".distilabel")
    with Pipeline(name="dialogues", cache_dir=cache) as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=arguments.j)
        model = BothSpeakers(
            model="mock",
            base_url=arguments.base_url,
            api_key="none",
            magpie_pre_query_template="qwen2",
            timeout=TIMEOUT,
            max_retries=TRIES,
        )
        load >> Magpie(llm=model, n_turns=arguments.turns, input_batch_size=arguments.j)
    rows = pipeline.run(use_cache=True)["default"]["train"]
    rows.map(
        lambda row: {
            "turns": [said["content"] for said in row["conversation"] if said["role"] != "system"]
        }
    ).to_json(str(arguments.out))


if __name__ == "__main__":
    main()
