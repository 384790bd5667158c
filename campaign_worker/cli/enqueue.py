"""`campaign-worker enqueue CAMPAIGN_ID`: adds the jobs of a campaign."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from campaign_worker.cli.console import exits, progress_bar, stdout
from campaign_worker.settings import Settings

NAME = "enqueue"


def command(
    campaign_id: Annotated[str, typer.Argument(help="Id of the campaign in Postgres.")],
) -> None:
    """Add a job for each pending recipient of a campaign.

    Starts it: a draft, or a completed campaign with new recipients, runs from then on; a paused one
    waits for `resume`. Idempotent: a recipient's job has always the same id, so that a second run
    adds nothing and an interrupted one can be repeated.

    Example: campaign-worker enqueue 42

    Exit codes: 0 every pending recipient has a job, 1 it failed, 77 login refused, 78 settings.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker import operations

        with progress_bar() as bar:
            task = bar.add_task("enqueue", total=None)

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            count = asyncio.run(operations.enqueue(settings, campaign_id, progress))
        mails = "mail" if count == 1 else "mails"
        stdout().print(f"campaign {campaign_id}: {count} pending {mails}, each with a job")
