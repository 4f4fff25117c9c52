"""Part 6: what a crash costs in requests, counted by the server that was asked (I6)."""

import re
import shutil
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.chat_server import Asked, ChatServer
from tests.crash.kills import TURN_LOG
from tests.crash.nursery import Nursery
from tests.crash.scene import OUTPUT, Scene, differences, ids_of, moments, pairs, quiet_run, stage

IN_FLIGHT = 4
PAIRS = 12
TURNS = 3

_ROLE = re.compile(r"(Instructor|Responder) number (\d+)")


class Utterance(NamedTuple):
    """The `position`-th of a dialogue."""

    id: str
    position: int


@dataclass(slots=True)
class Paid:
    """How many requests kills cost, and what was not as it must be."""

    kills: int = 0
    repeated: int = 0
    spared: int = 0
    wrong: list[str] = field(default_factory=list)


def kill_and_count(nursery: Nursery, kills: int, seed: int | None = None) -> Paid:
    """Kill runs on a real server until there were so many kills, and count what it was asked.

    A kill may cost the requests that were in flight, and none whose answer is in the turn log.
    """
    found = Paid()
    chance = moments(seed)
    with ChatServer() as server, stage("requests") as folder:
        server.delay = 0.01
        options = ("--base-url", server.url, "--turns", str(TURNS), "-j", str(IN_FLIGHT))
        scene = Scene(pairs(PAIRS), options)
        began = time.monotonic()
        quiet = quiet_run(nursery, scene, folder / "quiet")
        seconds = time.monotonic() - began
        while found.kills < kills and not found.wrong:
            life = scene.prepare(folder / "life")
            server.asked.clear()
            while True:
                child = nursery.start(scene.order(life))
                time.sleep(chance.uniform(0, seconds / 2))
                child.kill()
                code = child.wait()
                _until_idle(server)
                if code != -9:
                    break
                found.kills += 1
                _follow(server, nursery, scene, life, found)
            found.wrong += differences(life, quiet, child)
            shutil.rmtree(life)
    return found


def _follow(server: ChatServer, nursery: Nursery, scene: Scene, life: Path, found: Paid) -> None:
    """What the rest would cost now: a copy of the folder is run to its end, then forgotten."""
    before = Counter(map(_utterance, server.asked))
    kept = _kept(life) | {
        Utterance(id_, position) for id_ in ids_of(life / OUTPUT) for position in range(2 * TURNS)
    }
    copy = life.with_name("copy")
    shutil.copytree(life, copy)
    asked = len(server.asked)
    nursery.run(scene.order(copy))
    later = Counter(map(_utterance, server.asked[asked:]))
    del server.asked[asked:]
    shutil.rmtree(copy)
    found.spared += len(_kept(life))
    if paid_twice := later.keys() & kept:
        found.wrong.append(f"I6: asked for again, though kept: {sorted(paid_twice)}")
    repeated = sum((later & before).values())
    found.repeated += repeated
    if repeated > IN_FLIGHT:
        found.wrong.append(f"I6: a kill cost {repeated} requests, {IN_FLIGHT} were in flight")


def _kept(life: Path) -> set[Utterance]:
    """Those of the turn log whose line is whole."""
    log = life / TURN_LOG
    kept = set()
    for line in log.read_bytes().split(b"\n") if log.exists() else ():
        crc, _, body = line.partition(b" ")
        if body and crc == b"%08x" % zlib.crc32(body + b"\n"):
            row = orjson.loads(body)
            kept.add(Utterance(row["id"], row["position"]))
    return kept


def _utterance(asked: Asked) -> Utterance:
    """Which one a request is for."""
    messages = asked.body["messages"]
    role = _ROLE.search(messages[0]["content"])
    assert role
    spoken = sum(message["role"] == "assistant" for message in messages)
    return Utterance(f"pair-{role[2]}", 2 * spoken + (role[1] == "Responder"))


def _until_idle(server: ChatServer) -> None:
    """Requests of a process that is gone are answered to nobody."""
    while server.in_flight:
        time.sleep(0.002)
