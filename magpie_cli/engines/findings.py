"""What the flags ask to be done about findings."""

from magpie_cli.converse import Demands
from magpie_cli.settings import RESAMPLE, Settings

NEVER_AGAIN = ("ignore", "keep")  # of --on-finding


def demands_of(settings: Settings) -> Demands:
    """What a run asks of its utterances. At temperature 0 each sample is the same as the first."""
    is_settled = settings.temperature == 0
    never = settings.on_finding in NEVER_AGAIN or is_settled
    again = RESAMPLE if settings.resample is None else settings.resample
    return Demands(
        0 if never else again,
        settings.on_finding == "fail",
        is_settled,
        looks=settings.on_finding != "ignore",
    )
