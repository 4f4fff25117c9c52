"""The table of engines: each is a row here, and a file beside."""

from collections.abc import Mapping

from magpie_cli.devnet import NO_SDK
from magpie_cli.engine import EngineRow, StatusMeaning, processors

FEW_CORES = 4

_OPENAI = "magpie_cli.engines.openai"

_ROWS = (
    EngineRow(
        "echo", "magpie_cli.engines.echo", "offline demo text made from the personas; not data"
    ),
    EngineRow(
        "dria",
        "magpie_cli.engines.dria",
        "the Dria Network of the dria SDK (which seems to have ended in 2025), or one of your own",
        credential="DRIA_RPC_TOKEN",
        required=True,
        otherwise="add --devnet, a network inside this process",
        package="dria",
        absent=NO_SDK,
        prompts="MagPie of dria 0.0.124",
        concurrency=256,
    ),
    EngineRow(
        "dria-inference",
        _OPENAI,
        "the Dria Network's inference API, the network of today",
        base_url="https://inference.dria.co/v1",
        credential="DRIA_API_KEY",
        required=True,
        # https://docs.dria.co/docs/api/chat-completions ; 2048 is its own default, said aloud.
        statuses={
            402: StatusMeaning("the account has no credits left"),
            503: StatusMeaning("no node of the network serves this model at the moment", wait=True),
        },
        body={"max_tokens": 2048},
        timeout_field="timeout_secs",
    ),
    EngineRow(
        "local",
        "magpie_cli.engines.local",
        "a model inside this machine, fetched once; no server, no token",
        package="xllamacpp",
        concurrency=2 if processors() <= FEW_CORES else 4,
    ),
    EngineRow(
        "openai",
        _OPENAI,
        "OpenAI, or with --base-url any server that speaks its API",
        base_url="https://api.openai.com/v1",
        credential="OPENAI_API_KEY",
        required=True,
    ),
    EngineRow(
        "ollama",
        _OPENAI,
        "Ollama on this machine",
        base_url="http://localhost:11434/v1",
        start="ollama serve",
    ),
    EngineRow(
        "vllm",
        _OPENAI,
        "vLLM on this machine",
        base_url="http://localhost:8000/v1",
        credential="VLLM_API_KEY",
        start="vllm serve MODEL",
    ),
    EngineRow(
        "openrouter",
        _OPENAI,
        "OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        credential="OPENROUTER_API_KEY",
        required=True,
    ),
)

ENGINES: Mapping[str, EngineRow] = {row.name: row for row in _ROWS}
