"""`campaign-worker run`: the worker."""

from __future__ import annotations

import typer

from campaign_worker.cli.console import exits
from campaign_worker.settings import Settings

NAME = "run"


def command() -> None:
    """Work on the queues until SIGTERM, then drain and leave.

    Signals: the first SIGTERM or SIGINT finishes what is in flight within the drain window; the
    second hands it back at once; the third ends the process. SIGTSTP only stops taking new jobs.

    While Redis or Postgres is away it waits, says so, and /health answers 503; it starts by
    itself when they come.

    Needs: REDIS_URL, DATABASE_URL, SMTP_URL, MAIL_FROM.

    Example: DRAIN_SECONDS=60 QUEUES=campaign:50 campaign-worker run

    Exit codes: 0 nothing was lost, 1 the schema is not migrated, or forced by a third signal, 70
    fault of the program, 75 the drain window was over, 77 a server refused the login, 78 a setting
    is wrong.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker.app import run

        code = run(settings)
    raise typer.Exit(code)
