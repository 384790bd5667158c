"""Events as Prometheus metrics in a registry that is passed in. Names, units and labels live here.

Names follow https://prometheus.io/docs/practices/naming/: one prefix, base units, _total.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, assert_never, get_args

from metrics import events as e
from metrics.families import counter, gauge, histogram
from metrics.labels import BoundedLabel
from metrics.tracking import TrackingMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# A mail is some ten milliseconds beside its server and some hundred across the net; a tarpit or a
# slow virus scan takes tens of seconds, and 300 s is what RFC 5321 (4.5.3.2) lets a server think.
SMTP_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# A job is a mail plus two statements, so the same scale, cut where a job is simply slow.
JOB_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# A batch is one round trip: 1 ms on a private net; beyond 5 s the pool's limits end it.
BATCH_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
# Powers of two up to the largest batch: the question is whether batching happens at all.
BATCH_ROWS_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# 10 ms is a busy loop, 1 s an alarm, 30 s the usual lock duration.
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class PrometheusListener:
    """Counts every event; one per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = _Jobs(registry)
        self._queues = _Queues(registry)
        self._mails = _Mails(registry)
        self._storage = _Storage(registry)
        self._worker = _Worker(registry)
        self._tracking = TrackingMetrics(registry)

    def on_event(self, event: e.Event) -> None:
        """Count one event; some microseconds, no I/O."""
        match event:
            case (
                e.JobClaimed()
                | e.JobEnded()
                | e.JobHandedBack()
                | e.JobLost()
                | e.StalledRecovered()
                | e.UnknownJob()
            ):
                self._jobs.on_event(event)
            case e.LockRenewal() | e.ClaimPolled() | e.QueueDepth() | e.IntakeHeld():
                self._queues.on_event(event)
            case e.MailSent() | e.SmtpConnected() | e.WebhookReceived():
                self._mails.on_event(event)
            case e.BatchFlushed() | e.RowsReconciled():
                self._storage.on_event(event)
            case e.WorkerStateChanged() | e.ShutdownPhaseEnded() | e.JobsAtStop() | e.LoopLagged():
                self._worker.on_event(event)
            case (
                e.TrackingAnswered()
                | e.TrackingRefused()
                | e.TrackingDropped()
                | e.TrackingDrained()
            ):
                self._tracking.on_event(event)
            case _:
                assert_never(event)


class _Jobs:
    def __init__(self, registry: CollectorRegistry) -> None:
        # Apart from each other, so that foreign names never crowd out a queue or an outcome.
        self._queue = BoundedLabel()
        self._name = BoundedLabel()
        self._outcome = BoundedLabel()
        self._ended = counter(
            registry, "jobs", "Jobs that left this worker.", "queue", "name", "outcome"
        )
        self._in_flight = gauge(
            registry, "jobs_in_flight", "Jobs that are active in this worker.", "queue"
        )
        self._seconds = histogram(
            registry, "job_duration_seconds", "From claim to end.", JOB_BUCKETS, "queue", "name"
        )
        self._handed_back = counter(
            registry, "jobs_handed_back", "Jobs returned without an attempt.", "reason"
        )
        self._lost = counter(registry, "jobs_lost", "Active jobs whose lock was lost.")
        self._stalled = counter(
            registry, "stalled_recovered", "Jobs of vanished workers that were put back."
        )
        self._unknown = counter(
            registry, "unknown_jobs", "Jobs that no contract names.", "queue", "name"
        )

    def on_event(self, event: e.JobEvent) -> None:
        match event:
            case e.JobClaimed(queue=queue):
                self._in_flight.labels(self._queue(queue)).inc()
            case e.JobEnded(queue, name, outcome, seconds):
                self._in_flight.labels(self._queue(queue)).dec()
                self._ended.labels(
                    self._queue(queue), self._name(name), self._outcome(outcome)
                ).inc()
                self._seconds.labels(self._queue(queue), self._name(name)).observe(seconds)
            case e.JobHandedBack(reason=reason):
                self._handed_back.labels(self._outcome(reason)).inc()
            case e.JobLost():
                self._lost.inc()
            case e.StalledRecovered(count=count):
                self._stalled.inc(count)
            case e.UnknownJob(queue, name):
                self._unknown.labels(self._queue(queue), self._name(name)).inc()
            case _:
                assert_never(event)


class _Queues:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._label = BoundedLabel()
        self._renewals = counter(registry, "lock_renewals", "Lock renewals.", "result")
        self._polled = gauge(
            registry, "last_claim_poll_timestamp_seconds", "When Redis last answered a claim."
        )
        self._depth = gauge(registry, "queue_jobs", "Jobs of a queue by state.", "queue", "state")
        self._held = gauge(registry, "intake_held", "1 while intake is held.", "reason")

    def on_event(self, event: e.QueueEvent) -> None:
        label = self._label
        match event:
            case e.LockRenewal(result=result):
                self._renewals.labels(label(result)).inc()
            case e.ClaimPolled(at=at):
                self._polled.set(at)
            case e.QueueDepth(queue, state, count):
                self._depth.labels(label(queue), label(state)).set(count)
            case e.IntakeHeld(reason, held):
                self._held.labels(label(reason)).set(1 if held else 0)
            case _:
                assert_never(event)


class _Mails:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._label = BoundedLabel()
        self._sends = counter(registry, "sends", "Mail transactions.", "transport", "result")
        self._seconds = histogram(
            registry, "smtp_seconds", "From MAIL to the last reply.", SMTP_BUCKETS, "transport"
        )
        self._connects = histogram(
            registry,
            "smtp_connect_seconds",
            "From the first packet to a session ready for mail.",
            SMTP_BUCKETS,
            "transport",
            "result",
        )
        self._webhooks = counter(
            registry, "webhooks", "What providers reported.", "provider", "result"
        )

    def on_event(self, event: e.MailEvent) -> None:
        label = self._label
        match event:
            case e.MailSent(transport, result, seconds):
                self._sends.labels(label(transport), label(result)).inc()
                self._seconds.labels(label(transport)).observe(seconds)
            case e.SmtpConnected(transport, seconds, result):
                self._connects.labels(label(transport), label(result)).observe(seconds)
            case e.WebhookReceived(provider, result):
                self._webhooks.labels(label(provider), label(result)).inc()
            case _:
                assert_never(event)


class _Storage:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._label = BoundedLabel()
        self._batches = counter(registry, "batches", "Batched statements.", "statement", "result")
        self._rows = histogram(
            registry, "batch_rows", "Rows in a batch.", BATCH_ROWS_BUCKETS, "statement"
        )
        self._seconds = histogram(
            registry, "batch_seconds", "Time of a batch.", BATCH_SECONDS_BUCKETS, "statement"
        )
        self._reconciled = counter(
            registry, "reconciled_rows", "Rows that the reconciler changed.", "kind"
        )

    def on_event(self, event: e.StorageEvent) -> None:
        label = self._label
        match event:
            case e.BatchFlushed(statement, size, seconds, result):
                self._batches.labels(label(statement), label(result)).inc()
                self._rows.labels(label(statement)).observe(size)
                self._seconds.labels(label(statement)).observe(seconds)
            case e.RowsReconciled(kind, count):
                self._reconciled.labels(label(kind)).inc(count)
            case _:
                assert_never(event)


class _Worker:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._label = BoundedLabel()
        self._state = gauge(registry, "state", "1 for the state the worker is in.", "state")
        for state in get_args(e.WorkerStateName):
            self._state.labels(state).set(0)
        self._phases = gauge(
            registry, "shutdown_phase_seconds", "Time of a shutdown phase.", "phase", "result"
        )
        self._at_stop = gauge(
            registry, "shutdown_jobs", "What became of jobs since the stop began.", "fate"
        )
        self._lag = histogram(
            registry, "event_loop_lag_seconds", "Lateness of the event loop.", LAG_BUCKETS
        )

    def on_event(self, event: e.WorkerEvent) -> None:
        match event:
            case e.WorkerStateChanged(state=now):
                for state in get_args(e.WorkerStateName):
                    self._state.labels(state).set(1 if state == now else 0)
            case e.ShutdownPhaseEnded(phase, seconds, result):
                self._phases.labels(self._label(phase), self._label(result)).set(seconds)
            case e.JobsAtStop():
                for fate in (field.name for field in dataclasses.fields(event)):
                    self._at_stop.labels(fate).set(getattr(event, fate))
            case e.LoopLagged(seconds=seconds):
                self._lag.observe(seconds)
            case _:
                assert_never(event)
