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

from magpie_cli.devnet.options import MODEL, DevnetOptions

__all__ = ["MODEL", "DevnetOptions"]
