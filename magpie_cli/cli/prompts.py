"""`magpie prompts`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import AsJson, app, option, print_json, print_text
from magpie_cli.settings import MAX_TURNS

prompts = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Show or copy what speakers are told."
)
app.add_typer(prompts, name="prompts")


@prompts.command()
def show(
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="As generate --prompts. [default: magpie's]")
    ] = None,
    input: Annotated[
        str | None,
        option("--input", metavar="FILE", help="Pairs: the first is shown. [default: an example]"),
    ] = None,
    id: Annotated[
        str | None, option("--id", metavar="ID", help="Another pair of them than the first.")
    ] = None,
    turns: Annotated[
        int, option("--turns", "-t", metavar="N", min=1, max=MAX_TURNS, help="Of the dialogue.")
    ] = 3,
    turn: Annotated[
        int, option("--turn", metavar="K", min=1, help="The one that the speakers are asked for.")
    ] = 1,
    system: Annotated[
        str | None, option("--system", metavar="TEXT|@FILE", help="As generate --system.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print the messages that both speakers of a pair are sent. Asks no engine."""
    from magpie_cli.messages import show_messages

    shown = show_messages(folder, source=input, id_=id, turns=turns, turn=turn, system=system)
    print_json(shown) if json else print_text(shown.text())


@prompts.command()
def copy(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Made if it is not there.")],
) -> None:
    """Write magpie's own prompts into DIR, to change for --prompts."""
    from magpie_cli.prompt_files import copy_prompts

    print_text("\n".join(map(str, copy_prompts(folder))))
