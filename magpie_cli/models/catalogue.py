"""The models that magpie knows by name: small enough for one machine, none behind a licence gate.

Facts as other projects pin them (no page was asked from here). A checksum stands only with the
revision that it belongs to; the others are asked of the hub at download.
"""

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_MODEL = "qwen2.5:1.5b"


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """One GGUF file of a repository on huggingface.co.

    `size` in bytes; where there is no `sha256` it may be rounded, and the hub's own word counts.
    `licence` is an SPDX identifier or the licence's name. `note` helps to choose.
    """

    name: str
    repository: str
    file: str
    size: int
    licence: str
    note: str
    revision: str = "main"
    sha256: str | None = None


_MODELS = (
    CatalogueModel(
        "smollm2:360m",
        "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF",
        "smollm2-360m-instruct-q8_0.gguf",
        386_000_000,
        "Apache-2.0",
        "the smallest: English, short answers",
    ),
    CatalogueModel(
        "qwen2.5:0.5b",
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        491_400_032,
        "Apache-2.0",
        "for machines with little memory",
        revision="9217f5db79a29953eb74d5343926648285ec7e67",
        sha256="74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db",
    ),
    CatalogueModel(
        "gemma3:1b",
        "ggml-org/gemma-3-1b-it-GGUF",
        "gemma-3-1b-it-Q4_K_M.gguf",
        806_000_000,
        "Gemma terms of use",
        "many languages",
    ),
    CatalogueModel(
        "granite4:1b",
        "ibm-granite/granite-4.0-1b-GGUF",
        "granite-4.0-1b-Q4_K_M.gguf",
        1_023_645_440,
        "Apache-2.0",
        "follows instructions, drier in dialogue",
    ),
    CatalogueModel(
        "smollm2:1.7b",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        "smollm2-1.7b-instruct-q4_k_m.gguf",
        1_060_000_000,
        "Apache-2.0",
        "good English; takes much memory for long dialogues",
    ),
    CatalogueModel(
        DEFAULT_MODEL,
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        1_117_320_736,
        "Apache-2.0",
        "the default",
        revision="91cad51170dc346986eccefdc2dd33a9da36ead9",
        sha256="6a1a2eb6d15622bf3c96857206351ba97e1af16c30d7a74ee38970e434e9407e",
    ),
    CatalogueModel(
        "qwen3:4b",
        "unsloth/Qwen3-4B-Instruct-2507-GGUF",
        "Qwen3-4B-Instruct-2507-Q4_K_M.gguf",
        2_497_281_120,
        "Apache-2.0",
        "better dialogues, slower",
    ),
    CatalogueModel(
        "gemma4:e2b",
        "ggml-org/gemma-4-E2B-it-GGUF",
        "gemma-4-E2B-it-Q4_0.gguf",
        2_841_481_184,
        "Apache-2.0",
        "reasons first, unless that is switched off",
    ),
)

CATALOGUE: Mapping[str, CatalogueModel] = {model.name: model for model in _MODELS}
