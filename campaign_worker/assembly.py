"""Builds every part of a worker from its settings and joins them. Starts and decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import structlog

from campaign_worker.contract.processor import ContractProcessor
from campaign_worker.contract.reading import Source
from campaign_worker.contract_parts import ContractParts
from campaign_worker.delivery.breaker import Breakers
from campaign_worker.delivery.endgame import Endgame
from campaign_worker.delivery.leases import Leases
from campaign_worker.delivery.payload import KNOWN_JOBS
from campaign_worker.delivery.pipeline import Pipeline
from campaign_worker.delivery.ports import JobView
from campaign_worker.delivery.processor import MailProcessor, ProcessorOptions
from campaign_worker.delivery.reconciler import Reconciler
from campaign_worker.delivery.retry import RetryPolicy
from campaign_worker.delivery.routing import Routing
from campaign_worker.delivery.senders import Senders
from campaign_worker.delivery.spool import Drain
from campaign_worker.delivery.writing import Writer
from campaign_worker.errors import (
    ContractBroken,
    MailNotSent,
    PayloadError,
    RedisAway,
    SettingsError,
)
from campaign_worker.intake import IntakeGate
from campaign_worker.jobs import MailQueue, QueueEpochs
from campaign_worker.mail.compose import ComposerOptions, MailComposer, normalize
from campaign_worker.mail.outgoing import AnyTransport, OutgoingOptions, build_transport
from campaign_worker.mail.pace import SharedPace, Unpaced
from campaign_worker.mail.template_links import static_links
from campaign_worker.operations import database_options, recovery_options
from campaign_worker.queue import ConnectionSpec, Job, Worker
from campaign_worker.queue.backoff import backoff_delay
from campaign_worker.resting import Resting
from campaign_worker.sequence.scheduler import Scheduler
from campaign_worker.settings import (
    AmbiguousSend,
    QueueSpec,
    Settings,
    UnknownJobs,
    transport_variable,
)
from campaign_worker.slowest import SlowestJobs
from campaign_worker.storage.campaigns import Campaigns
from campaign_worker.storage.database import Database
from campaign_worker.storage.ledger import PostgresLedger
from campaign_worker.storage.recovery import PostgresRecovery, whole_rows
from campaign_worker.storage.spool import RedisSpool, spool_key
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from campaign_worker.tracking_parts import TrackingParts
from campaign_worker.troubles import Troubles
from campaign_worker.watch import Watch
from metrics import Fanout, Listener

log = structlog.get_logger(__name__)

_REDIS_REPLY_SECONDS = 5.0


class Parts:
    """The parts of one worker process, each made once."""

    def __init__(
        self, settings: Settings, listener: Listener, source: Source | None = None
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._connection = ConnectionSpec.of(settings.redis_url.get_secret_value())
        self.redis = self._connection.client(socket_timeout=_REDIS_REPLY_SECONDS)
        self.database = Database(database_options(settings))
        self.contract = (
            None
            if source is None
            else ContractParts(source, self.database, listener, self._contract_broken)
        )
        self._queues = {queue.name: self._build_queue(queue.name) for queue in settings.queues}
        epochs = QueueEpochs(self.redis, list(self._queues), settings.bullmq_prefix)
        whole = partial(whole_rows, self.database)
        self._scheduler = Scheduler(self._queue_of, settings.queues[0].name, epochs, whole)
        self.ledger = PostgresLedger(
            self.database,
            lease_seconds=settings.lease_seconds,
            normalize=normalize,
            listener=listener,
            static_links=None if settings.tracking_base_url is None else static_links,
            app=None if self.contract is None else self.contract.tables,
        )
        self.resting = Resting(self._queue_of)
        self.spool = RedisSpool(self.redis, spool_key(settings.bullmq_prefix))
        self._drain = Drain(self.spool, self.ledger.settle)
        self.tracking = (
            TrackingParts(settings, self.database, self.redis, listener)
            if settings.tracking_base_url is not None
            else None
        )
        self.leases = Leases(self.ledger, lease_seconds=settings.lease_seconds)
        self.transports = self._build_transports()
        self.breakers = Breakers(
            self.transports, listener, pause_seconds=settings.bounce_pause_seconds
        )
        floor_seconds = settings.retry_4xx_floor_seconds
        self.senders = Senders(listener, floor_seconds=floor_seconds)
        self.gate = self._build_gate()
        self.reconciler = self._build_reconciler()
        self.watch = Watch(self._queues, listener, self.senders.sweep)
        self.slowest = SlowestJobs(self.redis, settings.bullmq_prefix)
        self.troubles: dict[str, Troubles] = {}
        self._pipeline = self._build_pipeline()

    def build_worker(self, queue: QueueSpec) -> Worker:
        """Build the worker of one queue; it starts at once, and needs no Redis for that."""
        settings = self._settings
        options: dict[str, Any] = {
            "connection": self._connection,
            "prefix": settings.bullmq_prefix,
            "concurrency": queue.concurrency,
            "lockDuration": settings.lock_duration_ms,
            "stalledInterval": settings.stalled_interval_ms,
            "maxStalledCount": settings.max_stalled_count,
            # The row counts what a mail has done to its processes.
            "ignoreStallLimit": True,
            "name": settings.instance_id,
        }
        limit = queue.limit
        if limit is not None:
            options["limiter"] = {"max": limit.max, "duration": limit.duration_ms}
        elif settings.limiter_max is not None:
            options["limiter"] = {
                "max": settings.limiter_max,
                "duration": settings.limiter_duration_ms,
            }
        # The processor asks for the time of a worker that comes after it, and only once it runs.
        processor = self._build_processor(lambda: worker.now_ms())  # noqa: PLW0108 - not yet bound
        troubles = self.troubles[queue.name] = Troubles(queue.name, self._listener)
        heard = Fanout(self._listener, self.slowest, troubles)
        worker = Worker(queue.name, processor, options, listener=heard)
        worker.on("error", troubles.note)
        worker.on("failed", _on_job_failed)
        return worker

    def _contract_broken(self, error: ContractBroken) -> None:
        self.gate.database_away(error)

    async def _probe_database(self) -> None:
        """Raise while Postgres is away; what was written down meanwhile comes before new claims."""
        await self.database.ping()
        with contextlib.suppress(RedisAway):
            await self._drain.run()
        if self.tracking is not None:
            await self.tracking.drain_unsubscribes()

    async def _probe_transport(self, name: str) -> None:
        """Raise while a transport is down, or rests."""
        self.breakers.check(name)
        await self.transports[name].probe()

    def _check_transport(self, name: str) -> None:
        """Raise TransportDown for one that rests, or is known to be down."""
        self.breakers.check(name)
        self.gate.check(name)

    def _queue_of(self, name: str) -> MailQueue:
        if name not in self._queues:
            # A row may name a queue that this replica does not work on.
            self._queues[name] = self._build_queue(name)
        return self._queues[name]

    def _build_queue(self, name: str) -> MailQueue:
        forms = None if self.contract is None else self.contract.forms
        return MailQueue(self.redis, name, self._settings.bullmq_prefix, forms)

    def _build_transports(self) -> dict[str, AnyTransport]:
        settings = self._settings
        options = OutgoingOptions(
            max_connections=settings.smtp_max_connections or 1,
            send_timeout_seconds=settings.send_timeout_seconds,
            reply_timeout_seconds=settings.send_reply_timeout_seconds,
            ehlo_name=settings.ehlo_name,
            idle_timeout_seconds=settings.smtp_idle_timeout_seconds,
            messages_per_connection=settings.smtp_messages_per_connection,
            listener=self._listener,
        )
        return {
            name: build_transport(name, url.get_secret_value(), transport_variable(name), options)
            for name, url in settings.transports.items()
        }

    def _build_gate(self) -> IntakeGate:
        return IntakeGate(
            probe_database=self._probe_database,
            probe_transports={
                name: partial(self._probe_transport, name) for name in self.transports
            },
            listener=self._listener,
            transport_probe_seconds=self._settings.transport_probe_seconds,
            probe_contract=None if self.contract is None else self.contract.verify,
        )

    def _build_reconciler(self) -> Reconciler:
        recovery = PostgresRecovery(self.database, recovery_options(self._settings))
        interval = self._settings.reconcile_interval_seconds
        return Reconciler(
            recovery,
            self._scheduler,
            self._listener,
            drain=self._drain.run,
            interval_seconds=interval,
        )

    def _build_pipeline(self) -> Pipeline:
        settings = self._settings
        policy = RetryPolicy(
            floor_seconds=settings.retry_4xx_floor_seconds,
            resend_ambiguous=settings.ambiguous_send is AmbiguousSend.RESEND,
        )
        writer = Writer(self.ledger, self.spool, self.gate)
        return Pipeline(
            ledger=self.ledger,
            leases=self.leases,
            transports=Routing(
                self.transports, Campaigns(self.database).transports, self._check_transport
            ),
            composer=MailComposer(ComposerOptions(settings.mail_from, _tracking_urls(settings))),
            pace=self._build_pace(),
            endgame=Endgame(writer, self.gate, self.breakers, self.senders, policy),
            listener=self._listener,
        )

    def _build_processor(self, now_ms: Callable[[], int]) -> MailProcessor | ContractProcessor:
        options = ProcessorOptions(
            park_unknown=self._settings.unknown_jobs is UnknownJobs.PARK,
            now_ms=now_ms,
            backoff_seconds=_backoff_seconds,
            known_jobs=KNOWN_JOBS if self.contract is None else self.contract.job_names,
            on_rest=self.resting.note,
        )
        mails = MailProcessor(self._pipeline, self.gate, self._scheduler, self._listener, options)
        if self.contract is None:
            return mails
        return self.contract.processor(mails, self.gate, self._queue_of)

    def _build_pace(self) -> Unpaced | SharedPace:
        rate = self._settings.send_rate_per_second
        if rate is None:
            return Unpaced()
        key = f"{self._settings.bullmq_prefix}:campaign-worker:send-rate"
        return SharedPace(self.redis, key, per_second=rate)


def _tracking_urls(settings: Settings) -> TrackingUrls | None:
    base = settings.tracking_base_url
    return None if base is None else TrackingUrls(base, Keyring(settings.tracking_signing_keys))


def _on_job_failed(job: Job, error: BaseException, _previous: str) -> None:
    if isinstance(error, PayloadError | MailNotSent):
        return  # the processor has said which field, or whose mail
    about = {"job_id": job.id, "queue": job.queue_name, "attempt": job.attempts_made}
    log.error("job failed", kind=type(error).__name__, exc_info=error, **about)


async def _backoff_seconds(job: JobView) -> float:
    """Return the job's own backoff; a type that only a Node app knows counts as none."""
    try:
        delay_ms = await backoff_delay(cast("Job", job), MailNotSent("failed", ""), None)
    except SettingsError as error:
        log.warning("backoff", job_id=job.id, problem=str(error))
        return 0.0
    return (delay_ms or 0) / 1000
