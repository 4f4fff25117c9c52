"""`magpie models`."""

from magpie_cli.cli.app import AsJson, app, print_json, print_text


@app.command()
def models(json: AsJson = False) -> None:
    """List the models for this machine, and which are here."""
    from magpie_cli.models.listing import listed, text

    lines = listed()
    print_json(lines) if json else print_text(text(lines))
