"""The process in which llama.cpp runs: started as a file, it knows nothing of magpie.

Its one argument is its parent's process id. It reads one JSON line from standard input, writes one
to standard output (`{"url": ...}` once it serves, or `{"error": ..., "detail": ...}`), and ends
when standard input does: with its parent.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from importlib import import_module
from types import ModuleType

SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


def main() -> None:
    """Serve until the parent is gone."""
    die_with_parent(int(sys.argv[1]))
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever else is printed is talk
    orders = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=end_with_input, daemon=True).start()
    try:
        xllamacpp = import_module("xllamacpp")
    except ImportError as error:
        return tell(answers, error="import", detail=str(error))
    try:
        server = xllamacpp.Server(parameters(xllamacpp, orders))
    except RuntimeError as error:
        return tell(answers, error="load", detail=str(error))
    tell(answers, url=server.listening_address)
    threading.Event().wait()
    return None


def die_with_parent(parent: int) -> None:
    """At once, even while a model loads; Linux only, elsewhere the end of the input tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before
            os._exit(0)


def end_with_input() -> None:
    """Not through Python's own end: a server that still has requests would never come to it."""
    while os.read(0, 4096):  # not through an object that Python's end would wait for
        pass
    os._exit(0)


def parameters(xllamacpp: ModuleType, orders: dict[str, object]) -> object:
    """Those of llama.cpp's own server."""
    chosen = xllamacpp.CommonParams()
    chosen.model.path = orders["path"]
    chosen.n_parallel = orders["slots"]
    chosen.n_ctx = orders["context"]
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = orders["threads"]
    chosen.api_keys = [orders["key"]]
    chosen.cors_origins = "http://127.0.0.1"
    # By default a new dialogue takes the slot of one that goes on: all prompts begin alike.
    chosen.slot_prompt_similarity = 0.5
    chosen.cache_ram_mib = 0  # no gain where there are enough slots, and 8 GB by default
    chosen.warmup = False
    chosen.verbosity = 1
    chosen.ui = False
    return chosen


def tell(answers: int, **words: str) -> None:
    """One line for the parent."""
    os.write(answers, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
