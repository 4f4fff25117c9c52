"""`magpie prompts`: what both speakers of a pair are sent. Asks nobody."""

from dataclasses import dataclass

from magpie_cli.engine import Message
from magpie_cli.errors import UsageError
from magpie_cli.lines import input_name, open_input
from magpie_cli.personas import PairReader
from magpie_cli.prompt_files import read_prompts
from magpie_cli.prompts import Prompts, Views, as_text
from magpie_cli.records import Failure, PersonaPair


@dataclass(frozen=True, slots=True)
class Messages:
    """What the speakers of the pair `id` are sent for their utterances of the turn `turn`."""

    id: str
    turn: int
    num_turns: int
    instructor: tuple[Message, ...]
    responder: tuple[Message, ...]

    def text(self) -> str:
        """For a person."""
        speakers = (("instructor", self.instructor), ("responder", self.responder))
        return "\n\n".join(
            [
                f"pair {self.id}, turn {self.turn} of {self.num_turns}",
                *(as_text(speaker, messages) for speaker, messages in speakers),
            ]
        )


def show_messages(  # noqa: PLR0913 - one parameter a flag
    folder: str | None,
    *,
    source: str | None = None,
    id_: str | None = None,
    turns: int = 3,
    turn: int = 1,
    system: str | None = None,
) -> Messages:
    """With the prompts of `folder`, or magpie's own, for a pair of `source`: the first, or `id_`.

    Without a `source`, for an example that has all columns. What would have been said before stands
    in brackets. Raises UsageError.
    """
    prompts = read_prompts(folder, system)
    if source is None and id_ is not None:
        raise UsageError("--id names a pair of a file", "name it with --input")
    pair = _example(prompts) if source is None else _find(source, id_, prompts)
    num_turns = pair.num_turns or turns
    if turn > num_turns:
        raise UsageError(
            f"the dialogue of pair {pair.id} has no turn {turn}: it has {num_turns}",
            "--turn names one of them, --turns says how many there are",
        )
    views = Views(prompts, pair, num_turns)
    for number in range(1, turn):
        views.say(f"[the instructor's words of turn {number}]")
        views.say(f"[the responder's words of turn {number}]")
    instructor = tuple(views.instructor)
    views.say(f"[the instructor's words of turn {turn}]")
    return Messages(pair.id, turn, num_turns, instructor, tuple(views.responder))


def _example(prompts: Prompts) -> PersonaPair:
    return PersonaPair(
        id="example",
        instructor_persona="A curious scientist who counts moths by lamplight",
        responding_persona="A careful librarian with a cupboard of lost maps",
        num_turns=None,
        metadata={name: f"[the column {name}]" for name in prompts.columns},
        line_number=0,
        line="",
    )


def _find(source: str, id_: str | None, prompts: Prompts) -> PersonaPair:
    """The first pair, or the one of that id. Raises UsageError where there is none."""
    with open_input(source) as stream:
        failed = ""
        for pair in PairReader(stream, source, prompts.columns):
            if isinstance(pair, Failure):
                failed = failed or f" ({pair.message})"
            elif isinstance(pair, PersonaPair) and id_ in (None, pair.id):
                return pair
    which = "pair" if id_ is None else f"pair {id_!r}"
    raise UsageError(
        f"there is no {which} in {input_name(source)}{failed}",
        "name another file with --input" + ("" if id_ is None else ", or another --id"),
    )
