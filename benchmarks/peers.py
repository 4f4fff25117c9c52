"""magpie beside a bare aiohttp loop and beside its peers, on one mock server in the same run.

    python benchmarks/peers.py [--peer NAME=/path/to/its/python ...] [--rounds N]

A peer is datatrove, distilabel or curator, in an environment of its own; without its --peer, or
where it cannot be imported, it is left out. Needs Linux, a C compiler, and magpie in the
interpreter that runs this. All make the same dialogues of 3 turns. Contenders take turns; each run
has a fresh mock server, on a processor of its own, and the contender with all its processes has
another: so nobody waits for the server. The median of the rounds counts, ratios included. There are
as many dialogues to 64 in flight as --pairs says, and more to more: with latency, all tracks take
about as long.

end       dialogues a second, from the start of the process to its end
running   the same, from the first request to the last answer
ideal     the share of C / (2 N L) that `running` is: C in flight, N turns, L the latency
ms        processor time a request, start-up included
MB        peak memory of all processes together
x bare    `end` over that of the bare loop, in the same round
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inputs import count_rows, write_pairs, write_prompts
from measure import measure, run_command
from mock_server import compile_server, serving

HERE = Path(__file__).parent
TURNS = 3
# What each imports first, and its script.
PEERS = {
    "datatrove": ("datatrove", "datatrove_rollout.py"),
    "distilabel": ("distilabel", "distilabel_magpie.py"),
    "curator": ("bespokelabs.curator", "curator_staged.py"),
}
END_GOAL, PEER_GOAL, MEMORY_GOAL = 0.8, 3.0, 100.0
IDEAL_GOALS = {64: 0.93, 256: 0.85}


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of a contender."""

    end: float
    running: float
    processor: float
    peak: float
    requests: float


@dataclass(frozen=True, slots=True)
class Track:
    """What all contenders run on: latency in milliseconds, `folder` with its inputs."""

    folder: Path
    server: Path
    latency: float
    in_flight: int
    pairs: int

    @property
    def ideal(self) -> float:
        """Dialogues a second where nothing but the latency costs time; 0 where it costs none."""
        return self.in_flight / (2 * TURNS * self.latency / 1000) if self.latency else 0.0


@dataclass(frozen=True, slots=True)
class Contender:
    """`script` is empty for magpie, which takes pairs; the others take prompts.

    Nobody else looks at what was said: beside `magpie` there is `unchecked`, which does not either.
    """

    name: str
    python: str
    script: Path | None

    def command(self, track: Track, out: Path, url: str) -> list[str]:
        """The run that makes every dialogue."""
        if not self.script:
            command = run_command(track.folder / "pairs.jsonl", out, url, track.in_flight, TURNS)
            return command if self.name == "magpie" else [*command, "--on-finding", "ignore"]
        prompts, in_flight = track.folder / "prompts.jsonl", str(track.in_flight)
        command = [self.python, str(self.script), str(prompts), str(out)]
        return [*command, "--base-url", url, "-j", in_flight, "--turns", str(TURNS)]


def find_contenders(given: Sequence[str]) -> Iterator[Contender]:
    """magpie, the bare loop, and every peer that is there; a word about each that is not."""
    yield Contender("magpie", sys.executable, None)
    yield Contender("unchecked", sys.executable, None)
    yield Contender("bare", sys.executable, HERE / "bare.py")
    pythons = dict(each.split("=", 1) for each in given)
    for name, (package, script) in PEERS.items():
        python = pythons.pop(name, None)
        if python is None:
            print(f"{name}: skipped, no --peer {name}=/path/to/its/python")
        elif subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode:  # noqa: PLW1510 - the code is looked at
            print(f"{name}: skipped, {python} cannot import {package}")
        else:
            yield Contender(name, python, HERE / "peer" / script)
    if pythons:
        raise SystemExit(f"no such peer: {', '.join(pythons)}")


def run(contender: Contender, track: Track) -> Figures:
    """One run. SystemExit where a dialogue is missing, or is there twice."""
    with (
        tempfile.TemporaryDirectory(dir=track.folder) as place,
        serving(track.server, track.latency) as server,
    ):
        out = Path(place) / "out.jsonl"
        cost = measure(contender.command(track, out, server.url), Path(place) / "log")
        stats = server.stats()
        rows = count_rows(out, TURNS)
    pairs = track.pairs
    if len(rows) != pairs or set(rows.values()) != {1}:
        raise SystemExit(f"{contender.name}: {len(rows)} of {pairs} dialogues, or some not once")
    return Figures(
        end=pairs / cost.wall,
        running=pairs / (stats["last_answer"] - stats["first_request"]),
        processor=1000 * cost.processor / stats["requests"],
        peak=cost.peak,
        requests=stats["requests"] / pairs,
    )


def compare(contenders: Sequence[Contender], track: Track, rounds: int) -> None:
    """Print one table, and how the goals are met."""
    runs: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            runs[contender.name].append(run(contender, track))
    print(f"\n{track.latency:g} ms, {track.in_flight} in flight, {track.pairs:,} dialogues")
    print(f"{'':<12} {'end':>7} {'running':>8} {'ideal':>6} {'ms':>6} {'MB':>6} {'x bare':>7}")
    for name, figures in runs.items():
        end, running, processor, peak = (
            statistics.median(getattr(each, field) for each in figures)
            for field in ("end", "running", "processor", "peak")
        )
        share = f"{running / track.ideal:>6.0%}" if track.ideal else f"{'-':>6}"
        print(
            f"{name:<12} {end:>7.1f} {running:>8.1f} {share} {processor:>6.3f} {peak:>6.0f}"
            f" {ratio(figures, runs['bare']):>7.2f}",
            flush=True,
        )
    print_goals(runs, track)


def print_goals(runs: dict[str, list[Figures]], track: Track) -> None:
    """Each goal, and what came of it."""
    for name in ("magpie", "unchecked"):
        print_goals_of(name, runs, track)


def print_goals_of(name: str, runs: dict[str, list[Figures]], track: Track) -> None:
    """Of one way to run it."""
    magpie = runs[name]
    print(f"  {name}:")
    if track.ideal:
        share = statistics.median(each.running for each in magpie) / track.ideal
        print_goal("share of the ideal", share, IDEAL_GOALS.get(track.in_flight))
    else:
        print_goal("x bare", ratio(magpie, runs["bare"]), END_GOAL)
        peers = [name for name in runs if name in PEERS]
        if peers:
            slowest = min(ratio(magpie, runs[name]) for name in peers)
            print_goal("x the fastest peer", slowest, PEER_GOAL)
    peak = statistics.median(each.peak for each in magpie)
    if track.in_flight == max(IDEAL_GOALS):
        print(f"  peak memory {peak:.0f} MB, goal {MEMORY_GOAL:.0f} at most")


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures]) -> float:
    """The median over the rounds of `end` against `end`."""
    return statistics.median(a.end / b.end for a, b in zip(ours, theirs, strict=True))


def print_goal(what: str, reached: float, goal: float | None) -> None:
    """In one line."""
    if goal:
        print(f"  {what} {reached:.2f}, goal {goal} ({'met' if reached >= goal else 'missed'})")


def write_inputs(folder: Path, pairs: int) -> None:
    """What magpie takes, and the same for the others."""
    write_pairs(folder / "pairs.jsonl", pairs)
    write_prompts(folder / "prompts.jsonl", folder / "pairs.jsonl", TURNS)


def main() -> None:
    """Print one table a latency and number in flight."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 50], metavar="MS")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256], metavar="C")
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_server(folder)
        contenders = list(find_contenders(arguments.peer))
        for latency in arguments.latency:
            for in_flight in arguments.in_flight:
                pairs = arguments.pairs * (max(1, in_flight // 64) if latency else 1)
                write_inputs(folder, pairs)
                track = Track(folder, program, latency, in_flight, pairs)
                compare(contenders, track, arguments.rounds)


if __name__ == "__main__":
    main()
