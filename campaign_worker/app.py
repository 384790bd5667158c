"""The composition root: builds the worker of its settings, runs it, stops it. Knows everyone.

Decides nothing about jobs or mails; every rule is in the part that it belongs to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import structlog
import uvloop

import campaign_worker
from campaign_worker import logs
from campaign_worker.delivery.endgame import Endgame
from campaign_worker.delivery.leases import Leases
from campaign_worker.delivery.pipeline import Pipeline
from campaign_worker.delivery.ports import JobView
from campaign_worker.delivery.processor import MailProcessor, ProcessorOptions
from campaign_worker.delivery.reconciler import Reconciler
from campaign_worker.delivery.retry import RetryPolicy
from campaign_worker.delivery.routing import Routing
from campaign_worker.errors import MailNotSent, SettingsError
from campaign_worker.intake import IntakeGate
from campaign_worker.jobs import MailQueue
from campaign_worker.mail.compose import ComposerOptions, MailComposer, normalize
from campaign_worker.mail.pace import SharedPace, Unpaced
from campaign_worker.mail.smtp import SmtpTransport
from campaign_worker.mail.smtp_url import parse as parse_smtp_url
from campaign_worker.operations import database_options
from campaign_worker.queue import ConnectionSpec, Job, Worker
from campaign_worker.queue.backoff import backoff_delay
from campaign_worker.sequence.scheduler import Scheduler
from campaign_worker.settings import (
    DEFAULT_TRANSPORT,
    AmbiguousSend,
    QueueSpec,
    Settings,
    UnknownJobs,
)
from campaign_worker.startup import ping_redis, wait_for
from campaign_worker.state import Lifecycle, WorkerState
from campaign_worker.stopping import Stop, Tally
from campaign_worker.storage.campaigns import Campaigns
from campaign_worker.storage.database import Database
from campaign_worker.storage.ledger import PostgresLedger
from campaign_worker.storage.recovery import PostgresRecovery
from campaign_worker.watch import Watch
from campaign_worker.web import Health, WebServer
from metrics import Exposition, Fanout, PrometheusListener, process_registry
from shutdown import Deadline, ExitCode, Signals, StopLevel, Watchdog, unless

log = structlog.get_logger(__name__)

_REDIS_REPLY_SECONDS = 5.0
_OVERDUE_SECONDS = 5.0
"""Rows are looked at by the reconciler when their job should have run this long ago."""


def run(settings: Settings) -> int:
    """Run the worker until it is told to stop; the exit code of the process.

    Raises CredentialsRefused, MigrationError and SettingsError when it cannot start.
    """
    logs.configure(
        settings.log_format.value, settings.log_level.value, instance=settings.instance_id
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(App(settings).run())


class App:
    """One worker process: its parts, and the way up and down."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        registry = process_registry()
        self._tally = Tally()
        self._listener = Fanout(PrometheusListener(registry), self._tally)
        self._lifecycle = Lifecycle(self._listener)
        self._web = WebServer(settings.port, self, Exposition(registry))
        self._connection = ConnectionSpec.of(settings.redis_url.get_secret_value())
        self._redis = self._connection.client(socket_timeout=_REDIS_REPLY_SECONDS)
        self._queues = {
            queue.name: MailQueue(self._redis, queue.name, settings.bullmq_prefix)
            for queue in settings.queues
        }
        self._scheduler = Scheduler(self._queue_of, settings.queues[0].name)
        self._database = Database(database_options(settings))
        self._ledger = PostgresLedger(
            self._database,
            lease_seconds=settings.lease_seconds,
            normalize=normalize,
            listener=self._listener,
        )
        self._leases = Leases(self._ledger, lease_seconds=settings.lease_seconds)
        self._transports = self._build_transports()
        self._gate = IntakeGate(
            probe_database=self._database.ping,
            probe_transports={name: one.probe for name, one in self._transports.items()},
            listener=self._listener,
            transport_probe_seconds=settings.transport_probe_seconds,
        )
        self._reconciler = self._build_reconciler()
        self._watch = Watch(self._queues, self._listener)
        self._workers: list[Worker] = []

    async def run(self) -> int:
        """Start, work, stop; the exit code."""
        with Watchdog(self._last_words) as watchdog:

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
                    await self._redis.aclose()
                return code

    def health(self) -> Health:
        """Return the state of this moment."""
        polls = [worker.last_claim_monotonic for worker in self._workers]
        latest = max((poll for poll in polls if poll is not None), default=None)
        return Health(
            state=self._lifecycle.state,
            consumed=self._lifecycle.consumed,
            in_flight=sum(worker.active_jobs for worker in self._workers),
            last_claim_age_seconds=None if latest is None else time.monotonic() - latest,
            held=tuple(self._gate.reasons),
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
        if settings.tracking_base_url is not None:
            log.warning("settings", problem="TRACKING_BASE_URL: this version does not track yet")

    async def _start(self) -> None:
        await wait_for("Redis", lambda: ping_redis(self._redis))
        await wait_for("Postgres", self._database.open)
        await self._database.check_schema()
        await self._leases.start()
        await self._gate.start()
        self._workers = [self._build_worker(queue) for queue in self._settings.queues]
        self._gate.attach(self._workers)
        for worker in self._workers:
            await worker.wait_until_ready()
        await self._reconciler.start()
        await self._watch.start()

    async def _work(self, signals: Signals) -> None:
        """Work until a signal; SIGTSTP only ends the intake."""
        await signals.quiet_requested()
        self._lifecycle.to(WorkerState.DRAINING)
        for worker in self._workers:
            worker.quiet()
        await signals.stop_requested()

    def _stop(self, signals: Signals) -> Stop:
        return Stop(
            workers=self._workers,
            background=[self._reconciler, self._watch, self._gate],
            ledger=self._ledger,
            leases=self._leases,
            transports=list(self._transports.values()),
            database=self._database,
            signals=signals,
            tally=self._tally,
            listener=self._listener,
        )

    def _last_words(self) -> str:
        left = sum(worker.active_jobs for worker in self._workers)
        return f"campaign-worker: the stop deadline is over, {left} jobs were still active"

    def _queue_of(self, name: str) -> MailQueue:
        if name not in self._queues:
            # A row may name a queue that this replica does not work on.
            self._queues[name] = MailQueue(self._redis, name, self._settings.bullmq_prefix)
        return self._queues[name]

    def _build_transports(self) -> dict[str, SmtpTransport]:
        settings = self._settings
        return {
            name: SmtpTransport(
                parse_smtp_url(url.get_secret_value(), _setting_of(name)),
                name=name,
                max_connections=settings.smtp_max_connections or 1,
                ehlo_name=settings.ehlo_name,
                send_timeout_seconds=settings.send_timeout_seconds,
                idle_timeout_seconds=settings.smtp_idle_timeout_seconds,
                messages_per_connection=settings.smtp_messages_per_connection,
                listener=self._listener,
            )
            for name, url in settings.transports.items()
        }

    def _build_reconciler(self) -> Reconciler:
        recovery = PostgresRecovery(
            self._database,
            lease_seconds=self._settings.lease_seconds,
            overdue_seconds=_OVERDUE_SECONDS,
            resend_ambiguous=self._settings.ambiguous_send is AmbiguousSend.RESEND,
        )
        interval = self._settings.reconcile_interval_seconds
        return Reconciler(recovery, self._scheduler, self._listener, interval_seconds=interval)

    def _build_processor(self, now_ms: Callable[[], int]) -> MailProcessor:
        settings = self._settings
        policy = RetryPolicy(
            floor_seconds=settings.retry_4xx_floor_seconds,
            resend_ambiguous=settings.ambiguous_send is AmbiguousSend.RESEND,
        )
        pipeline = Pipeline(
            ledger=self._ledger,
            leases=self._leases,
            transports=Routing(self._transports, Campaigns(self._database).transports),
            composer=MailComposer(ComposerOptions(settings.mail_from)),
            pace=self._build_pace(),
            endgame=Endgame(self._ledger, self._gate, policy),
            listener=self._listener,
        )
        options = ProcessorOptions(
            park_unknown=settings.unknown_jobs is UnknownJobs.PARK,
            now_ms=now_ms,
            backoff_seconds=_backoff_seconds,
        )
        return MailProcessor(pipeline, self._gate, self._scheduler, self._listener, options)

    def _build_pace(self) -> Unpaced | SharedPace:
        rate = self._settings.send_rate_per_second
        if rate is None:
            return Unpaced()
        key = f"{self._settings.bullmq_prefix}:campaign-worker:send-rate"
        return SharedPace(self._redis, key, per_second=rate)

    def _build_worker(self, queue: QueueSpec) -> Worker:
        settings = self._settings
        options: dict[str, Any] = {
            "connection": self._connection,
            "prefix": settings.bullmq_prefix,
            "concurrency": queue.concurrency,
            "lockDuration": settings.lock_duration_ms,
            "stalledInterval": settings.stalled_interval_ms,
            "maxStalledCount": settings.max_stalled_count,
            "name": settings.instance_id,
        }
        if settings.limiter_max is not None:
            options["limiter"] = {
                "max": settings.limiter_max,
                "duration": settings.limiter_duration_ms,
            }
        # The processor asks for the time of a worker that comes after it, and only once it runs.
        processor = self._build_processor(lambda: worker.now_ms())  # noqa: PLW0108 - not yet bound
        worker = Worker(queue.name, processor, options, listener=self._listener)
        worker.on("error", self._on_worker_error)
        return worker

    def _on_worker_error(self, error: BaseException) -> None:
        log.warning("queue", error=str(error), kind=type(error).__name__)


def _setting_of(transport: str) -> str:
    return "SMTP_URL" if transport == DEFAULT_TRANSPORT else f"SMTP_URL_{transport.upper()}"


async def _backoff_seconds(job: JobView) -> float:
    """Return the job's own backoff; a type that only a Node app knows counts as none."""
    try:
        delay_ms = await backoff_delay(cast("Job", job), MailNotSent("failed", ""), None)
    except SettingsError as error:
        log.warning("backoff", job_id=job.id, problem=str(error))
        return 0.0
    return (delay_ms or 0) / 1000
