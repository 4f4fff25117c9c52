"""`magpie devnet`."""

from typing import Annotated

from magpie_cli.cli.app import app, engine_names, option, say


@app.command()
def devnet(
    port: Annotated[
        int, option("--port", metavar="N", min=0, max=65535, help="On loopback; 0: any free one.")
    ] = 8006,
    nodes: Annotated[int, option("--nodes", metavar="N", min=0, help="How many nodes.")] = 16,
    models: Annotated[
        str, option("--models", metavar="NAME,...", help="The models that nodes say they serve.")
    ] = "gemma2:9b-instruct-fp16",
    writer: Annotated[
        str,
        option(
            "--writer",
            metavar="NAME",
            autocompletion=engine_names,
            help="The engine that writes all words.",
        ),
    ] = "echo",
    writer_model: Annotated[
        str | None,
        option("--writer-model", metavar="NAME", help="Its model. [default: the only one]"),
    ] = None,
    writer_url: Annotated[
        str | None, option("--writer-url", metavar="URL", help="Its server, as --base-url.")
    ] = None,
    latency: Annotated[
        float,
        option("--latency", metavar="SECONDS", min=0, help="For a task, give or take half of it."),
    ] = 0,
    error_rate: Annotated[
        float,
        option("--error-rate", metavar="X", min=0, max=1, help="The share of tasks that fail."),
    ] = 0,
    lost_rate: Annotated[
        float,
        option("--lost-rate", metavar="X", min=0, max=1, help="The share of answers that vanish."),
    ] = 0,
    duplicate_rate: Annotated[
        float,
        option(
            "--duplicate-rate", metavar="X", min=0, max=1, help="The share of answers sent twice."
        ),
    ] = 0,
    rpc_error_rate: Annotated[
        float,
        option(
            "--rpc-error-rate", metavar="X", min=0, max=1, help="The share of calls answered 500."
        ),
    ] = 0,
    accept: Annotated[
        str | None, option("--accept", metavar="TOKEN", help="The only good token. [default: any]")
    ] = None,
    seed: Annotated[
        int, option("--seed", metavar="N", help="Of the nodes' keys and of all faults.")
    ] = 0,
) -> None:
    """Run a Dria network on this machine, for trying things out.

    It speaks the protocol of the Dria SDK 0.0.124, with real keys, signatures and encryption.
    """
    given = locals()  # the parameters are the options' fields, by name
    from magpie_cli.devnet import DevnetOptions
    from magpie_cli.devnet.serve import serve
    from magpie_cli.engines import open_chat_model
    from magpie_cli.shutdown import die_by

    die_by(serve(DevnetOptions(**given), open_chat_model, say))
