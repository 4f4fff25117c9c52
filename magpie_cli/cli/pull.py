"""`magpie pull`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import app, model_names, option, print_text


@app.command()
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=model_names,
            help="As magpie models lists it, hf:owner/repo/file.gguf, FILE.gguf, or as Ollama "
            "names it. "
            "[default: qwen2.5:1.5b]",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, option("--quiet", "-q", help="Say nothing but the path.")] = False,
) -> None:
    """Fetch the model NAME, and print the path of its file.

    Stopped in the middle, the same command goes on where it was. The checksum is verified.
    """
    from signal import Signals

    from magpie_cli.display.download import open_download
    from magpie_cli.models.pull import pull as fetch
    from magpie_cli.shutdown import die_by

    with open_download(quiet=quiet) as display:
        pulled = fetch(name, display)
    if isinstance(pulled, Signals):
        die_by(pulled)
    print_text(str(pulled))
