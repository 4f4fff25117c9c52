"""`magpie status`."""

from magpie_cli.cli.app import AsJson, FailuresFile, OfARun, app, print_json, print_text


@app.command()
def status(
    output: OfARun,
    failures: FailuresFile = None,
    json: AsJson = False,
) -> None:
    """Count what is done, failed and left in OUT.

    Reads only: it is safe during a run.
    """
    from magpie_cli.status import status as look

    answer = look(output, failures)
    print_json(answer) if json else print_text(answer.text())
