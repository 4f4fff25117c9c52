"""`magpie repair`."""

from typing import Annotated

from magpie_cli.cli.app import AsJson, FailuresFile, OfARun, app, option, print_json, print_text


@app.command()
def repair(
    output: OfARun,
    yes: Annotated[bool, option("--yes", help="Do it.")] = False,
    failures: FailuresFile = None,
    json: AsJson = False,
) -> None:
    """Show what in OUT is no row; with --yes, move it beside OUT. Deletes nothing."""
    from magpie_cli.verify import repair as repaired

    answer = repaired(output, failures, yes=yes)
    print_json(answer) if json else print_text(answer.text())
