"""`campaign-worker pause CAMPAIGN_ID`: no further mail of a campaign begins."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from campaign_worker.cli.console import exits, stdout
from campaign_worker.settings import Settings

NAME = "pause"


def command(
    campaign_id: Annotated[str, typer.Argument(help="Id of the campaign in Postgres.")],
) -> None:
    """Pause a running campaign: mails that are being sent end, and no other begins.

    Its jobs are put off, at first for 10 minutes, later for up to 6 hours; `resume` wakes them.

    Example: campaign-worker pause 42

    Exit codes: 0 it is paused, 1 it failed or is neither running nor paused, 77 login refused, 78
    settings.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker import commands

        asyncio.run(commands.pause(settings, campaign_id))
    stdout().print(f"campaign {campaign_id}: paused")
