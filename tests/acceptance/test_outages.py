"""Redis, Postgres or the SMTP server goes away in mid-run: our own outage costs no attempt."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.smtp_script import Hangup, Moment, Question, Reply
from campaign_worker.embedded.smtp_server import SmtpSink
from tests.acceptance.evidence import flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.fixtures.failover import SETTINGS, Pair
from tests.fixtures.proxy import TcpProxy
from tests.support import eventually

MAILS = 150
BACKOFF: dict[str, Any] = {"attempts": 3, "backoff": 100}


@pytest.mark.slow
async def test_postgres_stopped_for_10_s_in_mid_run_costs_nothing(
    make_site: SiteMaker, mortal_postgres: PostgresServer
) -> None:
    site, worker, campaign = await in_mid_run(make_site(database_url=mortal_postgres.url))
    await mortal_postgres.stop()
    await worker.says("intake held", away="postgres")
    assert (await worker.health())["held"] == ["postgres"]
    assert await worker.status("/health") == 200
    await lasting(10)
    accepted = len(site.sink.mails)
    assert accepted < MAILS, "the run was over before the outage"
    await mortal_postgres.start()
    assert await site.finished(campaign) == flawless(MAILS)
    await worker.says("intake open again", back="postgres")
    assert (await worker.health())["held"] == []


@pytest.mark.slow
async def test_postgres_frozen_beyond_its_timeouts_costs_nothing(
    make_site: SiteMaker, mortal_postgres: PostgresServer
) -> None:
    site, worker, campaign = await in_mid_run(make_site(database_url=mortal_postgres.url))
    mortal_postgres.freeze()
    await worker.says("intake held", away="postgres", timeout_seconds=20)
    assert len(site.sink.mails) < MAILS, "the run was over before the outage"
    mortal_postgres.thaw()
    assert await site.finished(campaign, 25) == flawless(MAILS)


async def test_jobs_that_come_while_postgres_is_away_go_back_and_spend_no_attempt(
    make_site: SiteMaker, mortal_postgres: PostgresServer
) -> None:
    site = make_site(database_url=mortal_postgres.url)
    campaign = await site.campaign(30)
    worker = await site.ready("worker")
    await mortal_postgres.kill()
    await site.add(campaign, **BACKOFF)
    await worker.says("intake held", away="postgres")
    await eventually(lambda: nothing_active(site))
    assert (await site.job_counts())["waiting"] == 30
    await mortal_postgres.start()
    verdict = await site.finished(campaign)
    assert verdict == flawless(30)
    assert verdict.started_twice > 0, "no job had met the outage"


async def test_a_redis_that_fails_over_in_mid_run_costs_nothing(
    make_site: SiteMaker, own_redis: Callable[..., Awaitable[RedisServer]]
) -> None:
    new, old = await own_redis(settings=SETTINGS), await own_redis(settings=SETTINGS)
    async with TcpProxy(old.url) as name:
        # The first follow-ups meet connections to the old primary: the reconciler adds their jobs.
        reconciler = {"RECONCILE_INTERVAL_SECONDS": "0.3", "RECONCILE_OVERDUE_SECONDS": "0"}
        site = make_site(redis_url=name.url, env=reconciler)
        campaign = await site.campaign(20, follow_up_seconds=0)
        worker = await site.ready("worker", LOCK_DURATION_MS="2000")
        site.sink.hold()
        await site.add(campaign)
        await site.sink.wait_at_dot(1)
        await Pair(old, new, name).fail_over()
        # For longer than their locks would last where they were.
        await lasting(2.5)
        site.sink.release()
        verdict = await site.finished(campaign)
        assert (verdict, verdict.started_twice) == (flawless(40), 0)
        await worker.kill()


async def test_redis_restarted_in_mid_run_costs_nothing(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site, _, campaign = await in_mid_run(make_site(redis_url=mortal_redis.url))
    await mortal_redis.restart()
    assert len(site.sink.mails) < MAILS, "the run was over before the outage"
    assert await site.finished(campaign) == flawless(MAILS)


async def test_redis_killed_and_away_for_3_s_in_mid_run_costs_nothing(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site, worker, campaign = await in_mid_run(make_site(redis_url=mortal_redis.url))
    await mortal_redis.kill()
    await worker.says("Redis does not answer")
    await lasting(3)
    assert await worker.status("/health") == 200
    (held,) = (await worker.health())["held"]
    assert held.startswith("redis: ")
    assert len(site.sink.mails) < MAILS, "the run was over before the outage"
    await mortal_redis.start()
    assert await site.finished(campaign) == flawless(MAILS)
    await worker.says("back", what="Redis")
    assert (await worker.health())["held"] == []
    assert len(worker.records("Redis does not answer")) == 1


async def test_an_idle_worker_says_that_redis_is_away_and_when_it_is_back(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site = make_site(redis_url=mortal_redis.url)
    worker = await site.ready("worker")
    await mortal_redis.kill()
    await worker.says("Redis does not answer")
    await mortal_redis.start()
    await worker.says("back", what="Redis", timeout_seconds=20)
    assert (await worker.health())["held"] == []


async def test_smtp_server_down_at_start_and_in_mid_run_costs_no_attempt(
    make_site: SiteMaker, own_sink: Callable[..., Awaitable[SmtpSink]]
) -> None:
    sink = await own_sink(latency_ms=20)
    site = make_site(sink=sink)
    await sink.stop()
    worker = await site.ready("worker")
    campaign = await site.campaign(MAILS)
    await site.add(campaign, **BACKOFF)
    await worker.says("intake held", away="transport default")
    assert (await worker.health())["held"] == ["transport default"]
    await eventually(lambda: nothing_active(site))
    closing = ClosesInGoodOrder()
    sink.script = closing
    await sink.start()
    await sink.wait_mails(30)
    closing.begin()
    await eventually(lambda: sink.open_connections == 0)
    await sink.stop()
    assert len(sink.mails) < MAILS, "the run was over before the outage"
    await eventually(lambda: len(worker.records("intake held")) == 2)
    sink.script = None
    await sink.start()
    assert await site.finished(campaign) == flawless(MAILS)
    assert len(worker.records("intake open again")) == 2


async def test_smtp_server_that_vanishes_in_mid_run_leaves_no_more_doubts_than_open_dots(
    make_site: SiteMaker, own_sink: Callable[..., Awaitable[SmtpSink]]
) -> None:
    sink = await own_sink(latency_ms=50)
    site, worker, campaign = await in_mid_run(make_site(sink=sink))
    await sink.stop()
    await worker.says("intake held", away="transport default")
    await sink.start()
    verdict = await site.finished(campaign)
    doubts = verdict.states.get("in_doubt", 0)
    assert doubts <= 10, "more doubts than connections"
    assert verdict.states == {"sent": MAILS - doubts} | ({"in_doubt": doubts} if doubts else {})
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)
    assert verdict.jobs_failed == doubts


@pytest.mark.parametrize("away", ["redis", "postgres"])
async def test_a_stop_while_a_server_is_away_keeps_to_the_budget_and_loses_nothing(
    make_site: SiteMaker,
    mortal_redis: RedisServer,
    mortal_postgres: PostgresServer,
    away: str,
) -> None:
    site = make_site(
        redis_url=mortal_redis.url,
        database_url=mortal_postgres.url,
        # Owners that are gone are given up early, so that the test sees what becomes of theirs.
        env={
            "LOCK_DURATION_MS": "1000",
            "STALLED_INTERVAL_MS": "500",
            "SEND_TIMEOUT": "3",
            "LEASE_SECONDS": "4",
            "RECONCILE_INTERVAL_SECONDS": "0.5",
        },
    )
    server = mortal_redis if away == "redis" else mortal_postgres
    site.sink.latency_ms = 500
    old = await site.ready("old", DRAIN_SECONDS="5")
    campaign = await site.campaign(20)
    await site.add(campaign, **BACKOFF)
    await site.sink.wait_at_dot(10)
    signalled = time.monotonic()
    old.send(signal.SIGTERM)
    await old.says("stopping")
    await server.kill()
    assert await old.ended(timeout_seconds=5) in (0, 75)
    assert time.monotonic() - signalled < 4.5, "beyond the budget"
    await server.start()
    await site.ready("next")
    verdict = await site.finished(campaign, 20)
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)
    assert verdict.accepted == 20
    assert verdict.states.get("in_doubt", 0) <= (0 if away == "redis" else 10)


class ClosesInGoodOrder:
    """From `begin()` on: answers the mail in hand, then closes; greets nobody any more."""

    def __init__(self) -> None:
        self._closing = False

    def begin(self) -> None:
        self._closing = True

    def __call__(self, question: Question) -> Reply | Hangup | None:
        if not self._closing:
            return None
        match question.moment:
            case Moment.GREETING:
                return Hangup()
            case Moment.DOT:
                return Reply("250 2.0.0 kept", then_close=True)
            case _:
                return None


async def lasting(seconds: float) -> None:
    """Let an outage last."""
    over = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() >= over, seconds + 1)


async def nothing_active(site: Site) -> bool:
    return (await site.job_counts())["active"] == 0


async def in_mid_run(site: Site) -> tuple[Site, WorkerProcess, Campaign]:
    """Start a worker that is at about a fifth of its campaign, with mails in flight."""
    site.sink.latency_ms = site.sink.latency_ms or 50
    worker = await site.ready("worker")
    campaign = await site.campaign(MAILS)
    await site.add(campaign, **BACKOFF)
    await site.accepted(30)
    return site, worker, campaign
