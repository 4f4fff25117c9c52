"""`magpie status`: how far an output is. Reads only, so it is safe while a run goes on."""

from dataclasses import dataclass

from magpie_cli.store import FailedBefore, done_ids, find_output


@dataclass(frozen=True, slots=True)
class Status:
    """`left` is None while nobody knows how many lines the input has (a pipe not yet through).

    `failed` counts the pairs and lines that have a failure and no row, `may_pass` those of them
    that the next run tries again. `command` is whose output it is.
    """

    output: str
    done: int
    failed: int
    may_pass: int
    left: int | None
    model: str
    engine: str
    command: str
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
        if self.left or self.may_pass or self.left is None:
            rows["next"] = f"the same magpie {self.command} command again goes on"
        elif self.failed:
            rows["next"] = (
                f"look at {self.failures_file}; --retry-failed all tries refused pairs again"
            )
        return "\n".join(f"{name:<7} {value}" for name, value in rows.items())


def status(output: str, failures: str | None = None) -> Status:
    """How far `output` is. Raises UsageError where it is no output of magpie's."""
    paths, manifest = find_output(output, failures)
    done = done_ids(output)
    failed_file = paths.failures
    failed = FailedBefore.read(paths, done)
    left = manifest.expected
    if left is not None:
        left = 0 if manifest.clean else max(0, left - len(done) - len(failed))
    return Status(
        output=output,
        done=len(done),
        failed=len(failed),
        may_pass=failed.may_pass_number,
        left=left,
        model=manifest.identity["model"],
        engine=manifest.identity["engine"],
        command=manifest.command,
        failures_file=str(failed_file) if failed else None,
    )
