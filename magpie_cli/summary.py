"""How a run ended: what was made, where it is, and what to type next."""

import shlex
from dataclasses import dataclass
from signal import Signals

from magpie_cli.errors import MagpieError
from magpie_cli.tally import Tally


@dataclass(frozen=True, slots=True)
class Summary:
    """`output` and `failures` are paths; `-` for any stream, None where nobody keeps failures.

    `again` is the command that goes on or tries again. `finished` says that the whole input is
    through, `stopped_by` and `error` what ended it before. `allow_failures` makes failed pairs no
    failure of the run. `verb` says what was done with a dialogue: "made", "judged".
    """

    tally: Tally
    output: str
    failures: str | None
    finished: bool
    stopped_by: Signals | None = None
    error: MagpieError | None = None
    again: str = "the same command"
    allow_failures: bool = False
    verb: str = "made"

    @property
    def exit_code(self) -> int:
        """0 all made, 3 some failed, 75 some left, else what the error or the signal says."""
        if self.stopped_by:
            return 128 + self.stopped_by
        if self.error:
            return self.error.exit_code
        if not self.finished:
            return 75
        return 3 if self.tally.failed and not self.allow_failures else 0

    @property
    def next_step(self) -> str:
        """What to type next; empty where nothing is left to do, or an error's hint says it."""
        if self.error:
            return ""
        if not self.finished:
            return self._to_go_on()
        if self.tally.failed:
            return self._about_failures()
        made_here = self.tally.made and self.output != "-"
        return f"magpie status {shlex.quote(self.output)}" if made_here else ""

    def _to_go_on(self) -> str:
        if self.output == "-":
            return "name a file with -o to go on where it stops"
        return f"run {self.again} again to go on"

    def _about_failures(self) -> str:
        if not self.failures:
            return "add --failures FILE to keep the lines that failed"
        if self.tally.bad_lines == self.tally.failed:
            return "mend the lines it names, then run the same command again"
        if self.output == "-":
            return ""
        if self.tally.may_pass:
            return f"{self.again} tries those again that were not at fault"
        return f"{self.again} with --retry-failed all tries them again"

    def sentence(self) -> str:
        """All of it on one line."""
        tally = self.tally
        if self.finished and tally.skipped and not tally.made and not tally.failed:
            return f"nothing to do: {count(tally.skipped, 'dialogue')} in {self.output} already"
        parts = [
            f"{self.verb} {count(tally.made, 'dialogue')}{self._much()} in {tally.seconds:,.1f} s"
            + (f" -> {self.output}" if self.output != "-" else "")
        ]
        if tally.skipped:
            verb = "was" if tally.skipped == 1 else "were"
            parts.append(f"{tally.skipped:,} {verb} there already")
        if tally.failed:
            kinds = ", ".join(f"{kind} {number:,}" for kind, number in tally.failures.most_common())
            where = f" -> {self.failures}" if self.failures else ""
            parts.append(f"{tally.failed:,} failed ({kinds}){where}")
        if tally.cut:
            cut = count(tally.cut, "utterance")
            parts.append(f"{cut} cut off by the limit of tokens (more with --max-tokens)")
        if tally.sampled_again:
            parts.append(f"{count(tally.sampled_again, 'utterance')} sampled again")
        if tally.found:
            found = ", ".join(f"{name} {rows:,}" for name, rows in tally.found.most_common())
            parts.append(f"findings in rows: {found}")
        if tally.control_tokens:
            tokens = count(tally.control_tokens, "control token")
            parts.append(f"{tokens} of chat templates in personas sent with a space in them")
        if self.stopped_by:
            parts.append(f"stopped by {self.stopped_by.name}")
        return "; ".join(parts) + (f". Next: {self.next_step}" if self.next_step else "")

    def _much(self) -> str:
        """` (6 utterances, 123 tokens)`, less what there is none of."""
        tally = self.tally
        parts = [count(tally.utterances, "utterance")] if tally.utterances else []
        parts += [f"{tally.tokens:,} tokens"] if tally.tokens else []
        return f" ({', '.join(parts)})" if parts else ""


def count(number: int, noun: str) -> str:
    """`1 dialogue`, `2 dialogues`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
