"""`campaign-worker run`: the worker."""

from __future__ import annotations

import os
import signal

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

    A worker that hangs (its event loop is blocked for four lock durations, or it claims nothing
    for two minutes although it could) writes all its stacks and ends itself.

    Exit codes: 0 nothing was lost, 1 the schema is not migrated, or forced by a third signal, 70
    fault of the program, or it hung, 75 the drain window was over and something still ran, 77 a
    server refused the login, 78 a setting is wrong, 143 SIGTERM before anything had begun.
    """
    with exits():
        settings = Settings.load()
        from campaign_worker.app import run

        code = run(settings)
    # The code is decided; a late signal must not change it, nor a watchdog whose deadline comes
    # while the interpreter takes itself apart. Every line of the log was flushed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os._exit(code)
