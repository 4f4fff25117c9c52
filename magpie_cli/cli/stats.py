"""`magpie stats`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import AsJson, FailuresFile, app, print_json, print_sections


@app.command()
def stats(
    input: Annotated[
        str, typer.Argument(metavar="OUT", help="What generate -o wrote; - is stdin.")
    ],
    failures: FailuresFile = None,
    json: AsJson = False,
) -> None:
    """Measure the rows of OUT: lengths, openings, findings and so on.

    Reads only: it is safe during a run.
    """
    from magpie_cli.stats import stats as measure

    found = measure(input, failures)
    print_json(found) if json else print_sections(found.sections())
