"""`campaign-worker track`: tracking links and webhooks as a service of their own."""

from __future__ import annotations

import os
import signal

from campaign_worker.cli.console import exits
from campaign_worker.errors import SettingsError
from campaign_worker.settings import TrackerSettings

NAME = "track"


def command() -> None:
    """Serve opens, clicks, unsubscribes and webhooks on PORT until SIGTERM. Sends no mail.

    `run` serves them too where TRACKING_BASE_URL is set; this is for a service of their own, in as
    many replicas as you like. It starts while Redis or Postgres is away, and answers meanwhile.

    Needs: REDIS_URL, DATABASE_URL, TRACKING_SIGNING_KEYS (those of the workers).

    Example: PORT=8081 campaign-worker track

    Exit codes: 0 no event was lost, 1 the schema is not migrated, or forced by a third signal, 70
    fault of the program, or it hung, 75 the drain window was over, 77 a server refused the login,
    78 a setting is wrong, 143 SIGTERM before anything had begun.
    """
    with exits():
        settings = TrackerSettings.load()
        if not settings.tracking_signing_keys:
            raise SettingsError(
                "TRACKING_SIGNING_KEYS", "is missing", "set it to that of the workers"
            )
        from campaign_worker.tracker import run

        code = run(settings)
    # The code is decided; a late signal must not change it, nor a watchdog whose deadline comes
    # while the interpreter takes itself apart. Every line of the log was flushed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os._exit(code)
