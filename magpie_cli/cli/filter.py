"""`magpie filter`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import app, option, print_json, print_sections


def check_names(incomplete: str) -> list[str]:
    """Completion: the checks whose names begin so."""
    from magpie_cli.checks import CHECKS, REPAIRS

    return [name for name in (*CHECKS, *REPAIRS, "all") if name.startswith(incomplete)]


@app.command(
    epilog="Checks: empty, speaker_label, both_speakers, role_flip, farewell, sycophantic_opening, "
    "refusal, truncated, too_short, too_long, prompt_echo, persona_leak, repetition, language. "
    "Without options all but sycophantic_opening, too_short and too_long reject a row. "
    "--check takes label_stripped and cut_at_other too: what generate has mended."
)
def filter(  # noqa: A001 - the command's name
    input: Annotated[
        str, typer.Argument(metavar="OUT", help="What generate -o wrote; - is stdin.")
    ],
    output: Annotated[
        str,
        option("--output", "-o", metavar="CLEAN", help="The file for rows that stay; - is stdout."),
    ] = "-",
    rejected: Annotated[
        str | None,
        option("--rejected", metavar="FILE", help="Keep the others here, with `rejected_by`."),
    ] = None,
    check: Annotated[
        list[str] | None,
        option(
            "--check",
            metavar="NAME",
            autocompletion=check_names,
            help="A check that rejects as well; all for every one.",
        ),
    ] = None,
    no_check: Annotated[
        list[str] | None,
        option(
            "--no-check",
            metavar="NAME",
            autocompletion=check_names,
            help="A check that does not; all for none but those of --check.",
        ),
    ] = None,
    min_words: Annotated[
        int | None, option("--min-words", metavar="N", min=1, help="Fewest words an utterance.")
    ] = None,
    max_words: Annotated[
        int | None, option("--max-words", metavar="N", min=1, help="Most words an utterance.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="EXPR",
            help="Keep rows of which it is true: 'num_turns >= 3 and metadata.topic == \"maps\"'.",
        ),
    ] = None,
    near: Annotated[
        float | None,
        option(
            "--near",
            metavar="X",
            min=0.1,
            max=1,
            help="Dialogues so similar (0.1 to 1; as 0.8) to one before are duplicates.",
        ),
    ] = None,
    keep_duplicates: Annotated[
        bool, option("--keep-duplicates", help="Keep dialogues of the very same words.")
    ] = False,
    trim: Annotated[
        bool,
        option(
            "--trim",
            help="Take off last turns that are only thanks and goodbyes; at least one stays.",
        ),
    ] = False,
    fresh: Annotated[
        bool, option("--fresh", help="Set files that are there aside as CLEAN.1, CLEAN.2 ...")
    ] = False,
    json: Annotated[bool, option("--json", help="Print what each rule took as JSON.")] = False,
) -> None:
    """Copy the rows of OUT that are worth training on to CLEAN.

    The report says what each rule took.
    """
    from magpie_cli.filter import filter_rows
    from magpie_cli.filter.rules import rules_of

    rules = rules_of(
        check or (),
        no_check or (),
        where or (),
        min_words=min_words,
        max_words=max_words,
        near=near,
        keep_duplicates=keep_duplicates,
        trim=trim,
    )
    report = filter_rows(input, output, rules, rejected=rejected, fresh=fresh)
    if json:
        print_json(report, err=output == "-")
    else:
        print_sections(report.sections(), err=output == "-")
