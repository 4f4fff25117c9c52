"""Models for this machine: their names, where they come from, the cache, and how one is fetched.

catalogue.py   the models that have a name of ours
names.py       what a user types -> a file, a file on Hugging Face, a tag of Ollama's registry
wanted.py      what that is, and whether it is here
cache.py       the files on this machine
header.py      what a GGUF file says of its model
origin.py      what hub.py (Hugging Face) and ollama.py (Ollama's registry) have in common
web.py         requests, redirects, tokens
means.py       what a download works with
retry.py       what is asked again, and how often
part.py        a file that is still coming
transfer.py    its bytes, counted and checked
download.py    all of that in its order
pull.py        the command `magpie pull`
listing.py     the command `magpie models`
"""

from magpie_cli.models.catalogue import CATALOGUE, DEFAULT_MODEL
from magpie_cli.models.download import fetch, resolve
from magpie_cli.models.means import free_space
from magpie_cli.models.wanted import (
    ASK_FIRST,
    Wanted,
    ask_first,
    check_space,
    find_model,
    size_text,
)

__all__ = [
    "ASK_FIRST",
    "CATALOGUE",
    "DEFAULT_MODEL",
    "Wanted",
    "ask_first",
    "check_space",
    "fetch",
    "find_model",
    "free_space",
    "resolve",
    "size_text",
]
