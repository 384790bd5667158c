"""How a command is told which mails are meant: by their rows, by a campaign, or all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from campaign_worker.cli.console import stderr

if TYPE_CHECKING:
    from campaign_worker.storage.doubts import Selection

_WRONG_USAGE = 2

Rows = Annotated[list[int] | None, typer.Argument(help="Ids of rows, as `list` shows them.")]
Campaign = Annotated[int | None, typer.Option("--campaign", help="All of this campaign's.")]
AllRows = Annotated[bool, typer.Option("--all", help="All that `list` would show.")]


def selected(rows: list[int] | None, campaign: int | None, *, every: bool) -> Selection:
    """Read what was given; exactly one of the three, or the command ends with wrong usage."""
    from campaign_worker.storage.doubts import Selection

    if bool(rows) + (campaign is not None) + every != 1:
        stderr().print("name the rows, or --campaign ID, or --all: exactly one of these")
        raise typer.Exit(_WRONG_USAGE)
    return Selection(tuple(rows) if rows else None, campaign)
