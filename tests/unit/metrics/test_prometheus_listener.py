from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import metrics
from metrics import Event, Exposition, PrometheusListener
from metrics.labels import BoundedLabel

if TYPE_CHECKING:
    from collections.abc import Iterable

P = "campaign_worker_"


def after(*events: Event) -> CollectorRegistry:
    registry = CollectorRegistry()
    listener = PrometheusListener(registry)
    for event in events:
        listener.on_event(event)
    return registry


def value(registry: CollectorRegistry, metric: str, /, **labels: str) -> float | None:
    return registry.get_sample_value(P + metric, labels)


@pytest.mark.parametrize(
    ("event", "name", "labels", "expected"),
    [
        (metrics.JobClaimed("q", "send"), "jobs_in_flight", {"queue": "q"}, 1),
        (
            metrics.JobEnded("q", "send", "sent", 0.2),
            "jobs_total",
            {"queue": "q", "name": "send", "outcome": "sent"},
            1,
        ),
        (
            metrics.JobEnded("q", "send", "sent", 0.2),
            "job_duration_seconds_sum",
            {"queue": "q", "name": "send"},
            0.2,
        ),
        (
            metrics.JobHandedBack("q", "shutdown"),
            "jobs_handed_back_total",
            {"reason": "shutdown"},
            1,
        ),
        (metrics.JobLost("q"), "jobs_lost_total", {}, 1),
        (metrics.StalledRecovered("q", 3), "stalled_recovered_total", {}, 3),
        (metrics.UnknownJob("q", "x"), "unknown_jobs_total", {"queue": "q", "name": "x"}, 1),
        (metrics.LockRenewal("q", "refused"), "lock_renewals_total", {"result": "refused"}, 1),
        (metrics.ClaimPolled("q", 1.7e9), "last_claim_poll_timestamp_seconds", {}, 1.7e9),
        (metrics.QueueDepth("q", "wait", 9), "queue_jobs", {"queue": "q", "state": "wait"}, 9),
        (metrics.IntakeHeld("database", True), "intake_held", {"reason": "database"}, 1),  # noqa: FBT003 - a record
        (
            metrics.MailSent("default", "accepted", 0.3),
            "sends_total",
            {"transport": "default", "result": "accepted"},
            1,
        ),
        (
            metrics.MailSent("default", "accepted", 0.3),
            "smtp_seconds_bucket",
            {"transport": "default", "le": "0.5"},
            1,
        ),
        (
            metrics.SmtpConnected("default", 0.1, "ok"),
            "smtp_connect_seconds_count",
            {"transport": "default", "result": "ok"},
            1,
        ),
        (
            metrics.WebhookReceived("ses", "forged"),
            "webhooks_total",
            {"provider": "ses", "result": "forged"},
            1,
        ),
        (
            metrics.BatchFlushed("claim", 20, 0.002, "ok"),
            "batch_rows_sum",
            {"statement": "claim"},
            20,
        ),
        (
            metrics.BatchFlushed("claim", 20, 0.002, "ok"),
            "batches_total",
            {"statement": "claim", "result": "ok"},
            1,
        ),
        (
            metrics.RowsReconciled("expired_lease", 2),
            "reconciled_rows_total",
            {"kind": "expired_lease"},
            2,
        ),
        (
            metrics.JobsAtStop(3, 2, 1, 0),
            "shutdown_jobs",
            {"fate": "handed_back"},
            2,
        ),
        (
            metrics.ShutdownPhaseEnded("drain", 1.5, "done"),
            "shutdown_phase_seconds",
            {"phase": "drain", "result": "done"},
            1.5,
        ),
        (
            metrics.TrackingAnswered("postgres", 0.004, {("open", "human"): 3}),
            "tracking_requests_total",
            {"kind": "open", "class": "human", "result": "postgres"},
            3,
        ),
        (
            metrics.TrackingAnswered("stream", 0.05, {("open", "human"): 3}),
            "tracking_answer_seconds_bucket",
            {"result": "stream", "le": "0.06"},
            1,
        ),
        (
            metrics.TrackingRefused("click", "invalid_token"),
            "tracking_refused_total",
            {"kind": "click", "reason": "invalid_token"},
            1,
        ),
        (metrics.TrackingDropped("events", 7), "tracking_dropped_total", {"stream": "events"}, 7),
        (metrics.TrackingDrained("events", 7), "tracking_drained_total", {"stream": "events"}, 7),
        (metrics.LoopLagged(0.02), "event_loop_lag_seconds_count", {}, 1),
    ],
)
def test_an_event_is_counted_where_operators_look_for_it(
    event: Event, name: str, labels: dict[str, str], expected: float
) -> None:
    assert value(after(event), name, **labels) == expected


def test_claims_and_ends_keep_the_number_in_flight() -> None:
    registry = after(
        metrics.JobClaimed("q", "a"),
        metrics.JobClaimed("q", "b"),
        metrics.JobEnded("q", "a", "handed_back", 0.1),
    )

    assert value(registry, "jobs_in_flight", queue="q") == 1


def test_the_worker_is_in_exactly_one_state() -> None:
    registry = after(metrics.WorkerStateChanged("ready"), metrics.WorkerStateChanged("draining"))

    states = {
        state: value(registry, "state", state=state) for state in get_args(metrics.WorkerStateName)
    }
    assert states == {"starting": 0, "ready": 0, "draining": 1, "stopped": 0}


def test_a_hold_that_is_over_reads_nought() -> None:
    held = metrics.IntakeHeld(reason="database", held=True)
    registry = after(held, dataclasses.replace(held, held=False))

    assert value(registry, "intake_held", reason="database") == 0


def test_foreign_job_names_cannot_fill_the_memory() -> None:
    registry = after(*(metrics.UnknownJob("q", f"job-{i}") for i in range(500)))

    names = labels_of(registry, P + "unknown_jobs_total", "name")
    assert len(names) <= 51
    assert value(registry, "unknown_jobs_total", queue="q", name="other") == 500 - 50


def test_foreign_job_names_do_not_crowd_out_the_names_of_queues() -> None:
    registry = after(
        *(metrics.UnknownJob("q", f"job-{i}") for i in range(60)), metrics.UnknownJob("late", "x")
    )

    assert value(registry, "unknown_jobs_total", queue="late", name="other") == 1


def labels_of(registry: CollectorRegistry, sample_name: str, label: str) -> set[str]:
    text = Exposition(registry).text().decode()
    return {
        sample.labels[label]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == sample_name
    }


@given(st.text(st.characters(), max_size=200))
def test_any_job_name_can_be_exposed(name: str) -> None:
    registry = after(
        metrics.JobEnded("q", name, "completed", 0.1), metrics.UnknownJob("q", "\ud800" + name)
    )

    (exposed,) = labels_of(registry, P + "jobs_total", "name")
    assert len(exposed) <= 64


@given(st.lists(st.text(st.characters(), max_size=5)))
def test_a_bounded_label_never_has_more_values_than_its_limit(values: Iterable[str]) -> None:
    label = BoundedLabel(limit=3)

    seen = {label(value) for value in values}

    assert len(seen - {"other"}) <= 3


def test_every_metric_is_ours_and_in_base_units() -> None:
    for family in after().collect():
        assert family.name.startswith(P)
        assert not family.name.endswith(("_ms", "_millis", "_minutes", "_kb"))


def test_every_kind_of_event_is_counted_and_exported() -> None:
    samples: dict[str, Any] = {
        "str": "x",
        "int": 1,
        "float": 0.5,
        "bool": True,
        "Mapping[tuple[str, str], int]": {("open", "human"): 1},
    }
    listener = PrometheusListener(CollectorRegistry())

    for kind in get_args(Event):
        fields = {
            field.name: samples.get(str(field.type), "ready") for field in dataclasses.fields(kind)
        }
        listener.on_event(kind(**fields))
        assert kind.__name__ in metrics.__all__
        assert kind.__dataclass_params__.frozen
