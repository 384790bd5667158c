"""`campaign-worker in-doubt`: mails whose outcome SMTP could not tell, and what you say of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from campaign_worker.storage.doubts import Selection, Verdict

NAME = "in-doubt"

_HELP = """Mails whose outcome SMTP could not tell.

The connection or the process was lost between the final dot and its 250. With AMBIGUOUS_SEND=hold
(the default) such mails wait here for your word.

Look into the log of your SMTP server for the Message-ID; then say what became of the mail.

Examples:

  campaign-worker in-doubt list --campaign 42

  campaign-worker in-doubt mark-sent 1001 1002

  campaign-worker in-doubt resend --campaign 42
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_command(
    campaign: Campaign = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the mails in doubt, the oldest thousand. No address is shown."""
    with exits():
        settings = Settings.load()
        from campaign_worker import operations
        from campaign_worker.storage.doubts import Selection

        selection = Selection(campaign_id=campaign)
        rows = asyncio.run(operations.list_doubts(settings, selection, LIST_LIMIT))
    show("in_doubt", rows, "in doubt", as_json=as_json)


@app.command("resend")
def resend_command(rows: Rows = None, campaign: Campaign = None, every: AllRows = False) -> None:
    """Send these mails again, byte for byte the same. Who has got one gets it twice."""
    from campaign_worker.storage.doubts import Verdict

    _decide(selected(rows, campaign, every=every), Verdict.RESEND, "will be sent again")


@app.command("mark-sent")
def mark_sent_command(rows: Rows = None, campaign: Campaign = None, every: AllRows = False) -> None:
    """Say that these mails arrived: they count as sent, and their follow-ups are scheduled."""
    from campaign_worker.storage.doubts import Verdict

    _decide(selected(rows, campaign, every=every), Verdict.MARK_SENT, "marked as sent")


@app.command("mark-failed")
def mark_failed_command(
    rows: Rows = None, campaign: Campaign = None, every: AllRows = False
) -> None:
    """Say that these mails did not arrive and are not to be sent any more."""
    from campaign_worker.storage.doubts import Verdict

    _decide(selected(rows, campaign, every=every), Verdict.MARK_FAILED, "marked as failed")


def _decide(selection: Selection, verdict: Verdict, done: str) -> None:
    with exits():
        settings = Settings.load()
        from campaign_worker import operations

        count = asyncio.run(operations.decide_doubts(settings, selection, verdict))
    told(count, done, selection)
