"""`magpie verify`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import AsJson, FailuresFile, OfARun, app, option, print_json, print_text


@app.command()
def verify(
    output: OfARun,
    input: Annotated[
        str | None,
        option(
            "--input", metavar="FILE", help="The input again: is there an outcome for each line?"
        ),
    ] = None,
    failures: FailuresFile = None,
    json: AsJson = False,
) -> None:
    """Read every line of OUT and say whether it is whole.

    Exit 0 if it is, 1 if not. Changes nothing.
    """
    from magpie_cli.verify import verify as verified

    verdict = verified(output, failures, input)
    print_json(verdict) if json else print_text(verdict.text())
    raise typer.Exit(1 if verdict.broken else 0)
