"""`magpie doctor`."""

from magpie_cli.cli.app import AsJson, app, print_json, print_text


@app.command()
def doctor(json: AsJson = False) -> None:
    """Say what this machine can do, and what each engine lacks."""
    from magpie_cli.doctor import doctor as examine

    report = examine()
    print_json(report) if json else print_text(report.text())
