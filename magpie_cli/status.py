"""`magpie status`: how far an output is. Reads only, so it is safe while a run goes on."""

from dataclasses import dataclass

from magpie_cli.store import done_ids, find_output, read_ids


@dataclass(frozen=True, slots=True)
class Status:
    """`left` is None while nobody knows how many lines the input has (a pipe not yet through).

    `failed` counts the pairs and lines that have a failure and no row.
    """

    output: str
    done: int
    failed: int
    left: int | None
    model: str
    engine: str
    failures_file: str | None

    def text(self) -> str:
        """For a person."""
        left = "unknown" if self.left is None else f"{self.left:,}"
        rows = {
            "output": self.output,
            "engine": f"{self.engine}, model {self.model}",
            "done": f"{self.done:,}",
            "failed": f"{self.failed:,}" + (f" ({self.failures_file})" if self.failed else ""),
            "left": left,
        }
        if self.left or self.failed:
            rows["next"] = "the same magpie generate command again goes on"
        return "\n".join(f"{name:<7} {value}" for name, value in rows.items())


def status(output: str, failures: str | None = None) -> Status:
    """How far `output` is. Raises UsageError where it is no output of magpie's."""
    paths, manifest = find_output(output, failures)
    done = done_ids(output)
    failed_file = paths.failures
    failed = {id_ for id_ in read_ids(failed_file, paths.output) if id_ not in done}
    left = manifest.expected
    if left is not None:
        left = 0 if manifest.clean else max(0, left - len(done) - len(failed))
    return Status(
        output=output,
        done=len(done),
        failed=len(failed),
        left=left,
        model=manifest.identity["model"],
        engine=manifest.identity["engine"],
        failures_file=str(failed_file) if failed else None,
    )
