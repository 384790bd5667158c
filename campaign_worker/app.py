"""One worker process: the way up, the work, the way down, and what it says of itself.

With assembly.py the composition root. Decides nothing about jobs or mails.
"""

from __future__ import annotations

import time

import structlog

import campaign_worker
from campaign_worker.assembly import Parts
from campaign_worker.contract.serving import served
from campaign_worker.queue import Worker
from campaign_worker.settings import Settings
from campaign_worker.startup import ping_redis, run_in_loop, tell_redis_faults, wait_for
from campaign_worker.state import Lifecycle, WorkerState
from campaign_worker.stopping import Stop, Tally
from campaign_worker.tracking_parts import webhook_handlers
from campaign_worker.web import Health, WebServer
from metrics import Exposition, Fanout, PrometheusListener, process_registry
from shutdown import (
    Deadline,
    ExitCode,
    HangGuard,
    Signals,
    StopLevel,
    Vital,
    Watchdog,
    unless,
)

log = structlog.get_logger(__name__)

HUNG_AFTER_LOCKS = 4
"""A loop that is blocked for so many lock durations has lost its jobs to others."""

TRACKING_FLUSH_SECONDS = 1.0
"""What events that came in during the stop have to get into Redis."""

CLAIMLESS_SECONDS = 120.0
"""How long a ready worker may claim nothing although it could."""


def run(settings: Settings) -> int:
    """Run the worker until it is told to stop; the exit code of the process.

    Raises CredentialsRefused, MigrationError and SettingsError when it cannot start.
    """
    return run_in_loop(settings, lambda: App(settings).run())


class App:
    """One worker process: its parts, and the way up and down."""

    def __init__(
        self, settings: Settings, *, claimless_limit_seconds: float = CLAIMLESS_SECONDS
    ) -> None:
        self._claimless_limit_seconds = claimless_limit_seconds
        settings, source = served(settings)
        self._settings = settings
        registry = process_registry()
        self._tally = Tally()
        self._listener = Fanout(PrometheusListener(registry), self._tally)
        self._lifecycle = Lifecycle(self._listener)
        self._parts = Parts(settings, self._listener, source)
        tracking = self._parts.tracking
        routes = {
            **webhook_handlers(settings, self._parts.database, self._listener),
            **({} if tracking is None else tracking.routes.table),
        }
        quick = None if tracking is None else tracking.routes.quick
        self._web = WebServer(settings.port, self, Exposition(registry), routes, quick)
        self._workers: list[Worker] = []

    async def run(self) -> int:
        """Start, work, stop; the exit code. The process has to end with it."""
        # Never disarmed: the loop's end waits for threads, which may hang in a name server.
        watchdog = Watchdog(self._last_words)
        watchdog.start()
        with self._hang_guard():

            def on_level(level: StopLevel, deadline: Deadline) -> None:
                watchdog.arm(deadline)
                if level is StopLevel.EXIT:
                    watchdog.end_now(ExitCode.FORCED)

            with Signals(self._settings.stop_budget_seconds, on_level) as signals:
                await self._web.start()
                self._announce()
                try:
                    if await unless(self._start(), signals.stop_requested()):
                        self._lifecycle.to(WorkerState.READY)
                        log.info("ready", port=self._web.port)
                        await self._work(signals)
                finally:
                    deadline = signals.request_stop()
                    self._lifecycle.to(WorkerState.DRAINING)
                    code = await self._stop(signals).run(deadline)
                    self._lifecycle.to(WorkerState.STOPPED)
                    await self._web.stop()
                    if self._parts.tracking is not None:
                        # To Redis only: Postgres was closed, and requests came in until now.
                        await self._parts.tracking.close(Deadline.after(TRACKING_FLUSH_SECONDS))
                    await self._parts.redis.aclose()
                return code

    def health(self) -> Health:
        """Return the state of this moment."""
        polls = [worker.last_claim_monotonic for worker in self._workers]
        latest = max((poll for poll in polls if poll is not None), default=None)
        return Health(
            state=self._lifecycle.state,
            consumed=self._lifecycle.consumed,
            in_flight=self._left(),
            last_claim_age_seconds=None if latest is None else time.monotonic() - latest,
            held=(
                *self._parts.gate.reasons,
                *self._parts.breakers.reasons,
                *self._parts.senders.reasons,
                # All queues of a Redis have the same to say.
                *dict.fromkeys(one.reason for one in self._parts.troubles.values() if one.reason),
                *(self._parts.tracking.held if self._parts.tracking is not None else ()),
            ),
            version=campaign_worker.__version__,
            instance=self._settings.instance_id,
        )

    def _announce(self) -> None:
        settings = self._settings
        log.info(
            "starting",
            version=campaign_worker.__version__,
            queues={queue.name: queue.concurrency for queue in settings.queues},
            transports={name: str(url) for name, url in settings.transports.items()},
            send_rate=settings.send_rate_per_second or "unlimited",
            stop_budget_seconds=settings.stop_budget_seconds,
        )
        for warning in settings.warnings:
            log.warning("settings", problem=warning)

    async def _start(self) -> None:
        await wait_for("Redis", lambda: ping_redis(self._parts.redis))
        await tell_redis_faults(self._parts.redis)
        await wait_for("Postgres", self._parts.database.open_migrated)
        if self._parts.contract is not None:
            await wait_for("Postgres", self._parts.contract.verify)
            await self._parts.contract.keeper.start()
        await self._parts.leases.start()
        await self._parts.slowest.start()
        await self._parts.gate.start()
        if self._parts.tracking is not None:
            # Before the first claim: somebody may have unsubscribed while Postgres was away.
            await wait_for("Postgres", self._parts.tracking.drain_unsubscribes)
            await self._parts.tracking.start()
        await self._parts.resting.start()
        self._workers = [self._parts.build_worker(queue) for queue in self._settings.queues]
        self._parts.gate.attach(self._workers)
        for worker in self._workers:
            await worker.wait_until_ready()
        await self._parts.reconciler.start()
        await self._parts.watch.start()

    async def _work(self, signals: Signals) -> None:
        """Work until a signal; SIGTSTP only ends the intake."""
        await signals.quiet_requested()
        self._lifecycle.to(WorkerState.DRAINING)
        for worker in self._workers:
            worker.quiet()
        if self._parts.contract is not None:
            self._parts.contract.halt()
        await signals.stop_requested()

    def _stop(self, signals: Signals) -> Stop:
        return Stop(
            workers=self._workers,
            background=[
                *(self._parts.reconciler, self._parts.resting, self._parts.watch),
                *(() if self._parts.contract is None else (self._parts.contract.keeper,)),
                self._parts.gate,
                *(self._parts.tracking.services if self._parts.tracking is not None else ()),
            ],
            ledger=self._parts.ledger,
            leases=self._parts.leases,
            slowest=self._parts.slowest,
            transports=list(self._parts.transports.values()),
            database=self._parts.database,
            signals=signals,
            tally=self._tally,
            listener=self._listener,
        )

    def _hang_guard(self) -> HangGuard:
        blocked_seconds = HUNG_AFTER_LOCKS * self._settings.lock_duration_ms / 1000
        claims = Vital("claiming", self._claimless_limit_seconds, self._claimless_seconds)
        return HangGuard(blocked_seconds, self._hung_words, [claims])

    def _claimless_seconds(self) -> float:
        if self._lifecycle.state is not WorkerState.READY:
            return 0.0
        return max(worker.claimless_seconds for worker in self._workers)

    def _hung_words(self) -> str:
        return f"campaign-worker: hung with {self._left()} active jobs"

    def _last_words(self) -> str:
        tally = self._tally
        return (
            f"campaign-worker: the stop deadline is over, {self._left()} jobs were still active; "
            f"since the signal {tally.finished} had finished, {tally.handed_back} were handed "
            f"back, {tally.abandoned} abandoned, {tally.in_doubt} mails were in doubt"
        )

    def _left(self) -> int:
        return sum(worker.active_jobs for worker in self._workers)
