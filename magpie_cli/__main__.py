"""`python -m magpie_cli`, the same as `magpie`."""

from magpie_cli.cli import main

main()
