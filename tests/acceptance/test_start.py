"""The way up: what is away is waited for, what is refused or wrong ends with its own exit code."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from tests.acceptance.evidence import flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Site, SiteMaker
from tests.fixtures.pgbouncer import Pooled
from tests.support import eventually, free_port

RIGHT, WRONG = "right-pass-word", "wrong-pass-word"


async def test_it_waits_for_redis_and_postgres_and_starts_by_itself(
    make_site: SiteMaker, mortal_redis: RedisServer, mortal_postgres: PostgresServer
) -> None:
    site = make_site(redis_url=mortal_redis.url, database_url=mortal_postgres.url)
    campaign = await site.campaign(5)
    await site.add(campaign)
    await asyncio.gather(mortal_redis.stop(), mortal_postgres.stop())
    worker = site.start("worker")
    await worker.says("waiting", server="Redis", level="warning")
    assert (await worker.status("/health"), await worker.status("/ready")) == (503, 503)
    assert (await worker.health())["state"] == "starting"
    await mortal_redis.start()
    await worker.says("back", what="Redis")
    await worker.says("waiting", server="Postgres", level="warning")
    assert await worker.status("/health") == 503
    await mortal_postgres.start()
    await worker.says("back", what="Postgres")
    await worker.ready()
    assert await site.finished(campaign) == flawless(5)


@pytest.mark.parametrize("command", ["run", "track"])
async def test_it_waits_for_a_postgres_that_is_away_behind_a_pooler(
    make_site: SiteMaker, mortal_postgres: PostgresServer, pooled: Pooled, command: str
) -> None:
    url = await pooled(mortal_postgres.url, "query_wait_timeout = 1", "server_login_retry = 1")
    tracking = {"TRACKING_BASE_URL": "https://t.example", "TRACKING_SIGNING_KEYS": f"1:{'k' * 40}"}
    pooler = {"DATABASE_URL": url, "DATABASE_POOLER": "transaction"}
    site = make_site(database_url=mortal_postgres.url, env=pooler | tracking)
    # It lets clients in by itself once it has seen its server.
    seen = await asyncpg.connect(url, statement_cache_size=0)
    await seen.close()
    await mortal_postgres.stop()
    worker = site.start("worker", command=command)
    await worker.says("waiting", server="Postgres", level="warning")
    await mortal_postgres.start()
    await worker.says("back", what="Postgres")
    await worker.ready()


async def test_it_starts_when_a_frozen_server_thaws(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site = make_site(redis_url=mortal_redis.url)
    mortal_redis.freeze()
    worker = site.start("worker")
    # Five of these are the time that one try has.
    await worker.says("waiting", server="Redis", level="warning", timeout_seconds=20)
    mortal_redis.thaw()
    await worker.ready()
    assert worker.running


@pytest.mark.parametrize("away", ["redis", "postgres"])
async def test_sigterm_ends_the_waiting_at_once(
    make_site: SiteMaker, mortal_redis: RedisServer, mortal_postgres: PostgresServer, away: str
) -> None:
    site = make_site(redis_url=mortal_redis.url, database_url=mortal_postgres.url)
    await (mortal_redis if away == "redis" else mortal_postgres).stop()
    worker = site.start("worker")
    await worker.says("waiting")
    signalled = time.monotonic()
    worker.send(signal.SIGTERM)
    assert await worker.ended(timeout_seconds=5) == 0
    assert time.monotonic() - signalled < 2.0
    assert worker.last_words["in_flight_at_signal"] == 0


async def test_a_wrong_password_of_redis_is_one_line_and_77(
    make_site: SiteMaker, own_redis: Callable[..., Awaitable[RedisServer]]
) -> None:
    server = await own_redis(password=RIGHT)
    url = server.url.replace(RIGHT, WRONG)
    site = make_site(redis_url=server.url, secrets=(RIGHT, WRONG), env={"REDIS_URL": url})
    await refused(site.start("worker"), "REDIS_URL")
    await refused(site.start("without", REDIS_URL=url.replace(f":{WRONG}@", "")), "REDIS_URL")


async def test_a_wrong_password_of_postgres_is_one_line_and_77(
    make_site: SiteMaker, own_postgres: Callable[..., Awaitable[PostgresServer]]
) -> None:
    server = await own_postgres(password=RIGHT)
    url = server.url.replace(RIGHT, WRONG)
    site = make_site(database_url=server.url, secrets=(RIGHT, WRONG), env={"DATABASE_URL": url})
    await refused(site.start("worker"), "DATABASE_URL")


async def test_a_schema_that_is_not_migrated_names_the_command_to_run(
    make_site: SiteMaker, empty_database_url: str
) -> None:
    worker = make_site(database_url=empty_database_url).start("worker")
    assert await worker.ended() == 1
    (line,) = worker.plain_lines()
    assert "campaign-worker migrate" in line


async def test_wrong_settings_end_it_with_78_before_anything_is_connected(
    make_site: SiteMaker, tmp_path: Path
) -> None:
    worker = make_site().start("worker", CONCURRENCY="none", MAIL_FROM="nobody")
    assert await worker.ended() == 78
    assert worker.records() == []
    lines = worker.plain_lines()
    assert "2 settings are wrong" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["CONCURRENCY", "MAIL_FROM"]


async def test_a_sender_that_no_mail_could_have_ends_it_with_78_instead_of_failing_all_mails(
    site: Site,
) -> None:
    two = "News <news@sender.example>, more@sender.example"
    campaign = await site.campaign(1)
    await site.add(campaign)
    worker = site.start("worker", MAIL_FROM=two)
    assert await worker.ended() == 78
    _, line = worker.plain_lines()
    assert line.strip().startswith("MAIL_FROM: is not a sender: one address is expected")
    checked = await site.cli("check", MAIL_FROM=two, PORT=str(free_port()))
    assert checked.code == 1
    assert "error   MAIL_FROM: is not a sender: one address is expected" in checked.stdout
    await site.ready("mended")
    assert await site.finished(campaign) == flawless(1)


async def refused(worker: WorkerProcess, variable: str) -> None:
    """See it end with 77 and one line on stderr that names the variable."""
    assert await worker.ended() == 77
    (line,) = worker.plain_lines()
    assert line.startswith(f"campaign-worker: {variable}: ")
    await eventually(lambda: not worker.running)


async def test_without_a_drain_window_on_railway_the_start_log_says_what_will_happen(
    make_site: SiteMaker,
) -> None:
    # An empty variable counts as unset.
    worker = make_site().start("worker", RAILWAY_SERVICE_ID="service", DRAIN_SECONDS="")
    await worker.says("starting", stop_budget_seconds=1.0)
    await worker.ready()
    (warning,) = worker.records("settings")
    assert warning["level"] == "warning"
    assert "Railway kills this worker right after SIGTERM" in warning["problem"]
    assert "RAILWAY_DEPLOYMENT_DRAINING_SECONDS=60" in warning["problem"]
