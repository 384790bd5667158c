from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from metrics import Event, Exposition, Fanout, JobLost, PrometheusListener, process_registry

if TYPE_CHECKING:
    from metrics import Listener


class Notebook:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


class Broken:
    def on_event(self, event: Event) -> None:
        raise LookupError(f"cannot take {type(event).__name__}")


def test_a_broken_listener_keeps_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, last = Notebook(), Notebook()
    listener: Listener = Fanout(first, Broken(), last)

    listener.on_event(JobLost("q"))

    assert first.events == last.events == [JobLost("q")]
    assert "cannot take JobLost" in caplog.text


def test_a_broken_listener_is_counted_always_and_logged_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fanout = Fanout(Broken())

    for _ in range(1001):
        fanout.on_event(JobLost("q"))

    assert fanout.failures == 1001
    assert [record.__dict__["failures"] for record in caplog.records] == [1, 1001]


def test_an_interrupt_is_not_a_fault_of_a_listener() -> None:
    class Interrupted:
        def on_event(self, event: Event) -> None:
            raise KeyboardInterrupt(type(event).__name__)

    with pytest.raises(KeyboardInterrupt):
        Fanout(Interrupted()).on_event(JobLost("q"))


def test_the_exposition_is_text_that_prometheus_reads() -> None:
    registry = CollectorRegistry()
    PrometheusListener(registry).on_event(JobLost("q"))
    exposition = Exposition(registry)

    families = {
        family.name: family for family in text_string_to_metric_families(exposition.text().decode())
    }

    assert families["campaign_worker_jobs_lost"].samples[0].value == 1
    assert exposition.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_two_registries_of_one_process_share_no_numbers() -> None:
    first, second = process_registry(), process_registry()
    PrometheusListener(first).on_event(JobLost("q"))
    PrometheusListener(second)

    assert first.get_sample_value("campaign_worker_jobs_lost_total") == 1
    assert second.get_sample_value("campaign_worker_jobs_lost_total") == 0
    resident = first.get_sample_value("process_resident_memory_bytes")
    assert resident is not None
    assert resident > 0
