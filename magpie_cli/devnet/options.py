"""What a devnet is asked to be: one field a flag of `magpie devnet`."""

from dataclasses import dataclass

MODEL = "gemma2:9b-instruct-fp16"  # that of the Dria documentation's MagPie example


@dataclass(frozen=True, slots=True)
class DevnetOptions:
    """`models` are the names, between commas, that nodes say they serve; `writer` writes anyway.

    `writer_model` and `writer_url` are its model and its server. `latency` in seconds a task; rates
    are shares, 0 to 1. `accept` is the only good token, None for any. `port` 0 is any free one.
    """

    port: int = 8006  # that of the network's RPC before it had a name
    nodes: int = 16
    models: str = MODEL
    writer: str = "echo"
    writer_model: str | None = None
    writer_url: str | None = None
    latency: float = 0.0
    error_rate: float = 0.0
    lost_rate: float = 0.0
    duplicate_rate: float = 0.0
    rpc_error_rate: float = 0.0
    accept: str | None = None
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """The models, one by one."""
        return [name.strip() for name in self.models.split(",") if name.strip()]
