"""`magpie doctor`."""

from typing import Annotated

from magpie_cli.cli.app import app, option, print_json, print_text


@app.command()
def doctor(json: Annotated[bool, option("--json", help="Print JSON.")] = False) -> None:
    """Say of each engine whether it is ready, and what it lacks."""
    from magpie_cli.doctor import doctor as examine
    from magpie_cli.doctor import text

    checkups = examine()
    print_json(checkups) if json else print_text(text(checkups))
