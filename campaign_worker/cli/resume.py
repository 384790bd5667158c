"""`campaign-worker resume CAMPAIGN_ID`: a paused campaign goes on, at once."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from campaign_worker.cli.console import exits, progress_bar, stdout
from campaign_worker.settings import Settings

NAME = "resume"


def command(
    campaign_id: Annotated[str, typer.Argument(help="Id of the campaign in Postgres.")],
) -> None:
    """Let a paused campaign run, and wake its jobs: at most 2,000 a second.

    Setting its status in Postgres does the same: workers notice it at their next look.

    Example: campaign-worker resume 42

    Exit codes: 0 it runs and its due mails have live jobs, 1 it failed or is neither paused nor
    running, 77 login refused, 78 settings.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker import commands

        with progress_bar() as bar:
            task = bar.add_task("resume", total=None)

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            woken = asyncio.run(commands.resume(settings, campaign_id, progress))
    stdout().print(f"campaign {campaign_id}: running, {woken} jobs woken")
