"""A worker's troubles are told once, not twice a second; and what ends them."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from campaign_worker.errors import JobNotHeld
from campaign_worker.troubles import Troubles
from metrics import ClaimPolled, Event, IntakeHeld, LockRenewal, PrometheusListener

CLAIMED = ClaimPolled("news", time.time())
RENEWED = LockRenewal("news", "ok")


class Heard:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def test_a_redis_that_is_away_is_told_once_and_when_it_is_back() -> None:
    heard = Heard()
    troubles = Troubles("news", heard)
    with capture_logs() as lines:
        for _ in range(5):
            troubles.note(RedisConnectionError("Connection refused"))
        assert troubles.reason == "redis: Connection refused"
        troubles.on_event(CLAIMED)
        troubles.on_event(CLAIMED)
    assert [line["event"] for line in lines] == ["Redis does not answer", "back"]
    assert troubles.reason is None
    held = "redis for news"
    assert heard.events == [IntakeHeld(held, held=True), IntakeHeld(held, held=False)]


def test_a_queue_that_is_back_does_not_speak_for_another() -> None:
    registry = CollectorRegistry()
    listener = PrometheusListener(registry)
    news, campaign = Troubles("news", listener), Troubles("campaign", listener)
    for troubles in (news, campaign):
        troubles.note(OutOfMemoryError("used memory > 'maxmemory'"))
    news.on_event(CLAIMED)
    samples = [one for family in registry.collect() for one in family.samples]
    held = [one.value for one in samples if one.name == "campaign_worker_intake_held"]
    assert sorted(held) == [0, 1]


def test_locks_that_are_renewed_end_an_outage_and_no_refusal() -> None:
    troubles = Troubles("news", Heard())
    troubles.note(TimeoutError())
    assert troubles.reason == "redis: TimeoutError"
    troubles.on_event(RENEWED)
    assert troubles.reason is None
    troubles.note(OutOfMemoryError("used memory > 'maxmemory'"))
    troubles.on_event(RENEWED)
    assert troubles.reason == "redis: used memory > 'maxmemory'"
    troubles.on_event(CLAIMED)
    assert troubles.reason is None


def test_what_is_about_one_job_is_told_each_time_and_holds_nothing() -> None:
    troubles = Troubles("news", Heard())
    with capture_logs() as lines:
        troubles.note(JobNotHeld("1"))
        troubles.note(JobNotHeld("2"))
    assert [(line["event"], line["queue"]) for line in lines] == [("queue", "news")] * 2
    assert troubles.reason is None
