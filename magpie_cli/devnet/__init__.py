"""A Dria network on this machine: an RPC on loopback, and nodes with real keys behind it.

It speaks the protocol of the Dria SDK 0.0.124, executes its workflows step by step, signs and
encrypts as the network's nodes did, and writes with any of our engines. For a first look without a
token, for code written for the SDK, and for our own tests. Not for other machines: loopback only.

options.py    what can be asked of it
network.py    the RPC's endpoints
node.py       keys, heartbeats, signed and encrypted answers
workflow.py   what a node does with a workflow
serve.py      the command
"""

from importlib.util import find_spec
from platform import python_version

from magpie_cli.devnet.options import MODEL, DevnetOptions
from magpie_cli.errors import UsageError

__all__ = ["MODEL", "NO_SDK", "DevnetOptions", "check_sdk"]


NO_SDK = (
    f"the last release of the Dria SDK does not install on Python 3.12 and later (this is "
    f"{python_version()})"
)


def check_sdk(what: str) -> None:
    """Raises UsageError where the package dria, and what comes with it, is not installed."""
    if find_spec("dria") is None:
        raise UsageError(
            f"{what} needs the Dria SDK, which is not installed: {NO_SDK}",
            "use Python 3.11; or --engine dria-inference, the Dria Network's API of today, or "
            "--engine echo, for a first look",
        )
