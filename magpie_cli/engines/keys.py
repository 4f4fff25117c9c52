"""Which key goes to a server."""

from collections.abc import Mapping

from magpie_cli.address import check_key
from magpie_cli.engine import EngineRow
from magpie_cli.engines import OWN_KEY
from magpie_cli.errors import UsageError


def find_key(row: EngineRow, base_url: str, environment: Mapping[str, str]) -> str | None:
    """The key to send to `base_url`, None for none.

    A preset's key goes to the preset's own address alone, MAGPIE_API_KEY to any other. Raises
    UsageError where the key lacks, cannot be sent, or would travel unencrypted.
    """
    own_address = base_url == row.base_url
    variable = (row.credential or "") if own_address else OWN_KEY
    key = environment.get(variable, "").strip()
    if own_address and row.required and not key:
        raise UsageError(
            f"the {row.name} engine needs a key, and {variable} is not set",
            f"export {variable}=...",
        )
    check_key(variable, key, base_url)
    return key or None
