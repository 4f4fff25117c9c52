"""`magpie repair`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import AsJson, FailuresFile, app, option, print_json, print_text


@app.command()
def repair(
    output: Annotated[str, typer.Argument(metavar="OUT", help="What generate -o wrote.")],
    yes: Annotated[bool, option("--yes", help="Do it.")] = False,
    failures: FailuresFile = None,
    json: AsJson = False,
) -> None:
    """Show what in OUT is no row; with --yes, move it beside OUT. Deletes nothing."""
    from magpie_cli.verify import repair as repaired

    answer = repaired(output, failures, yes=yes)
    print_json(answer) if json else print_text(answer.text())
