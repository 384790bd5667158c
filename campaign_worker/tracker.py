"""One tracker process: tracking links and webhooks, without any mail. The way up and the way down.

With tracking_parts.py the composition root of `track`. Decides nothing about an event.
"""

from __future__ import annotations

import asyncio

import structlog

import campaign_worker
from campaign_worker.operations import database_options
from campaign_worker.queue import ConnectionSpec
from campaign_worker.settings import TrackerSettings
from campaign_worker.startup import ping_redis, run_in_loop, wait_for
from campaign_worker.state import Lifecycle, WorkerState
from campaign_worker.storage.database import Database
from campaign_worker.tracking_parts import TrackingParts, webhook_handlers
from campaign_worker.watch import Watch
from campaign_worker.web import Health, WebServer
from metrics import Exposition, Fanout, PrometheusListener, ShutdownPhaseEnded, process_registry
from shutdown import (
    Deadline,
    ExitCode,
    HangGuard,
    Phase,
    PhaseReport,
    Plan,
    Signals,
    StopLevel,
    Watchdog,
    end,
    unless,
)

log = structlog.get_logger(__name__)

_REDIS_REPLY_SECONDS = 5.0
_BLOCKED_SECONDS = 60.0
"""A loop that is blocked for so long answers nobody any more."""

_CLOSE_SHARE = 0.25
_CLOSE_SECONDS_MOST = 2.0
"""What closing the stores gets of the stop's budget."""


def run(settings: TrackerSettings) -> int:
    """Track until told to stop; the exit code of the process.

    Raises CredentialsRefused, MigrationError and SettingsError when it cannot start.
    """
    return run_in_loop(settings, lambda: Tracker(settings).run())


class Tracker:
    """One tracker process. It serves from the first moment, with whichever store is there."""

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings
        registry = process_registry()
        self._listener = Fanout(PrometheusListener(registry))
        self._lifecycle = Lifecycle(self._listener)
        connection = ConnectionSpec.of(settings.redis_url.get_secret_value())
        self._redis = connection.client(socket_timeout=_REDIS_REPLY_SECONDS)
        self._database = Database(database_options(settings))
        self._parts = TrackingParts(settings, self._database, self._redis, self._listener)
        routes = {
            **webhook_handlers(settings, self._database, self._listener),
            **self._parts.routes.table,
        }
        self._watch = Watch({}, self._listener)
        quick = self._parts.routes.quick
        self._web = WebServer(settings.port, self, Exposition(registry), routes, quick)

    async def run(self) -> int:
        """Start, serve, stop; the exit code. The process has to end with it."""
        watchdog = Watchdog(lambda: "campaign-worker: the stop deadline of the tracker is over")
        watchdog.start()
        with HangGuard(_BLOCKED_SECONDS, lambda: "campaign-worker: the tracker hung", []):

            def on_level(level: StopLevel, deadline: Deadline) -> None:
                watchdog.arm(deadline)
                if level is StopLevel.EXIT:
                    watchdog.end_now(ExitCode.FORCED)

            with Signals(self._settings.stop_budget_seconds, on_level) as signals:
                await self._web.start()
                await self._watch.start()
                log.info("starting", version=campaign_worker.__version__, port=self._web.port)
                for warning in self._settings.warnings:
                    log.warning("settings", problem=warning)
                try:
                    if await unless(self._start(), signals.stop_requested()):
                        await signals.stop_requested()
                finally:
                    deadline = signals.request_stop()
                    self._lifecycle.to(WorkerState.DRAINING)
                    await self._stop(deadline)
                    self._lifecycle.to(WorkerState.STOPPED)
                forced = signals.level >= StopLevel.EXIT
                return ExitCode.FORCED if forced else ExitCode.OK

    def health(self) -> Health:
        """Return the state of this moment."""
        return Health(
            state=self._lifecycle.state,
            consumed=self._lifecycle.consumed,
            in_flight=0,
            last_claim_age_seconds=None,
            held=self._parts.held,
            version=campaign_worker.__version__,
            instance=self._settings.instance_id,
        )

    async def _start(self) -> None:
        """Be ready with the first store that answers; return when both have."""
        stores = [
            asyncio.create_task(wait_for("Postgres", self._database.open_migrated)),
            asyncio.create_task(wait_for("Redis", lambda: ping_redis(self._redis))),
        ]
        try:
            for store in asyncio.as_completed(stores):
                await store
                if self._lifecycle.state is WorkerState.STARTING:
                    await self._parts.start()
                    self._lifecycle.to(WorkerState.READY)
                    log.info("ready", port=self._web.port)
        finally:
            await end(*stores)

    async def _stop(self, deadline: Deadline) -> None:
        log.info("stopping", budget_seconds=round(deadline.remaining(), 1))
        reserve = min(deadline.remaining() * _CLOSE_SHARE, _CLOSE_SECONDS_MOST)
        await Plan(self._phases(reserve), self._report).run(deadline)
        log.info("tracker stopped", kept=self._parts.events.kept)

    def _phases(self, reserve: float) -> list[Phase]:
        return [
            Phase("quiet", "no request may come after the flush", self._quiet, 2 * reserve),
            Phase("background", "nobody else may need the stores", self._background, 2 * reserve),
            Phase("flush", "what is in memory is secured", self._parts.close, reserve),
            Phase("postgres", "after the last event", self._database.close, reserve / 2),
            Phase("redis", "last: it takes what Postgres cannot", self._close_redis),
        ]

    async def _quiet(self, _deadline: Deadline) -> None:
        await self._web.stop()

    async def _background(self, _deadline: Deadline) -> None:
        for service in (self._watch, *self._parts.services):
            await service.stop()

    async def _close_redis(self, _deadline: Deadline) -> None:
        await self._redis.aclose()

    def _report(self, report: PhaseReport) -> None:
        self._listener.on_event(
            ShutdownPhaseEnded(report.name, report.seconds, report.result.value)
        )
