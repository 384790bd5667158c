"""`campaign-worker failed`: mails that ran out of attempts or killed their workers; retry them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from campaign_worker.cli.console import exits
from campaign_worker.cli.selection import (
    LIST_LIMIT,
    AllRows,
    Campaign,
    Rows,
    selected,
    show,
    told,
)
from campaign_worker.settings import Settings

NAME = "failed"

_HELP = """Mails that failed, and may be tried again.

exhausted: the server said "later" until no attempt was left. quarantined: one worker after the
other died while it had the mail in hand. Hard bounces and refusals are not among them: those mails
never go out again.

Examples:

  campaign-worker failed list --campaign 42

  campaign-worker failed retry 1001 1002

  campaign-worker failed retry --campaign 42
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_command(
    campaign: Campaign = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the mails that may be tried again, the oldest thousand. No address is shown."""
    with exits():
        settings = Settings.load()
        from campaign_worker import operations
        from campaign_worker.masking import without_addresses
        from campaign_worker.storage.doubts import Selection

        selection = Selection(campaign_id=campaign)
        found = asyncio.run(operations.list_failures(settings, selection, LIST_LIMIT))
    # What a server said may quote the address.
    rows = [row | {"detail": without_addresses(row["detail"] or "")} for row in found]
    show("failed", rows, "may be tried again", as_json=as_json)


@app.command("retry")
def retry_command(rows: Rows = None, campaign: Campaign = None, every: AllRows = False) -> None:
    """Send these mails after all, with all their attempts, now.

    A quarantined one goes out alone, with nothing beside it that it could harm.

    Exit codes: 0 done, 1 it failed, 2 nothing was named, 77 login refused, 78 settings.
    """
    selection = selected(rows, campaign, every=every)
    with exits():
        settings = Settings.load()
        from campaign_worker import operations

        count = asyncio.run(operations.retry_failures(settings, selection))
    told(count, "will be tried again", selection)
