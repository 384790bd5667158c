"""`campaign-worker recover`: a job for every mail to be sent, after Redis lost some."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from campaign_worker.cli.console import exits, progress_bar, stdout
from campaign_worker.settings import Settings

if TYPE_CHECKING:
    from campaign_worker.commands import Recovered

NAME = "recover"


def command() -> None:
    """Look at every scheduled mail, and give a live job to each that has none.

    Workers do this by themselves when they see that Redis was emptied or went back in time. This
    does it at once, also when they cannot see it. May be repeated, and broken off.

    Example: campaign-worker recover

    Exit codes: 0 every scheduled mail has a job, 1 it failed, 77 login refused, 78 settings.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker import commands

        with progress_bar() as bar:
            task = bar.add_task("recover", total=None)

            def progress(done: Recovered) -> None:
                bar.update(task, description=f"looked at {done.looked}, revived {done.revived}")

            done = asyncio.run(commands.recover(settings, progress))
    stdout().print(f"{done.looked} scheduled mails looked at, {done.revived} jobs revived")
