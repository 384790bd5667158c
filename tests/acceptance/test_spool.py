"""A worker that has to go while Postgres is away leaves its accepted mails behind in Redis."""

from __future__ import annotations

import signal
import time

import pytest

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from tests.acceptance.evidence import flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.support import eventually

MAILS = 30
DRAIN_SECONDS = 5.0
SLACK_SECONDS = 1.0
# Leases of the dead are over when the next worker looks.
SHORT = {
    "CONCURRENCY": "10",
    "DRAIN_SECONDS": f"{DRAIN_SECONDS:g}",
    "LOCK_DURATION_MS": "1500",
    "STALLED_INTERVAL_MS": "500",
    "SEND_TIMEOUT": "2",
    "LEASE_SECONDS": "3",
    "RECONCILE_INTERVAL_SECONDS": "0.3",
}


@pytest.mark.parametrize("policy", ["hold", "resend"])
async def test_mails_accepted_while_postgres_was_away_are_sent_once_after_a_stop_in_the_outage(
    make_site: SiteMaker, mortal_postgres: PostgresServer, policy: str
) -> None:
    site = make_site(database_url=mortal_postgres.url, env={**SHORT, "AMBIGUOUS_SEND": policy})
    campaign, worker = await accepted_in_an_outage(site, mortal_postgres)
    await gone_in_time(worker)
    assert await spooled(site) == 10
    await mortal_postgres.start()
    second = await site.ready("second")
    assert await site.finished(campaign, 30) == flawless(MAILS)
    assert await spooled(site) == 0
    await second.says("outcomes drained", rows=10)


async def test_a_crash_in_the_outage_leaves_nothing_in_doubt_that_was_written_down(
    make_site: SiteMaker, mortal_postgres: PostgresServer
) -> None:
    site = make_site(database_url=mortal_postgres.url, env=SHORT)
    campaign, worker = await accepted_in_an_outage(site, mortal_postgres)
    await worker.says("an outcome was written down for Postgres")
    await eventually(lambda: ten_spooled(site))
    await worker.kill()
    await mortal_postgres.start()
    await site.ready("second")
    verdict = await site.finished(campaign, 30)
    assert (verdict.states, verdict.accepted) == ({"sent": MAILS}, MAILS)


async def test_with_redis_away_as_well_the_worker_still_goes_in_time_and_nothing_goes_twice(
    make_site: SiteMaker, mortal_postgres: PostgresServer, mortal_redis: RedisServer
) -> None:
    site = make_site(redis_url=mortal_redis.url, database_url=mortal_postgres.url, env=SHORT)
    campaign, worker = await accepted_in_an_outage(site, mortal_postgres, mortal_redis)
    await gone_in_time(worker)
    await mortal_redis.start()
    await mortal_postgres.start()
    await site.ready("second")
    verdict = await site.finished(campaign, 30)
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)
    assert verdict.states == {"sent": MAILS - 10, "in_doubt": 10}


async def accepted_in_an_outage(
    site: Site, postgres: PostgresServer, redis: RedisServer | None = None
) -> tuple[Campaign, WorkerProcess]:
    """Have ten mails accepted when Postgres is away already."""
    worker = await site.ready("first")
    campaign = await site.campaign(MAILS)
    site.sink.hold()
    await site.add(campaign)
    await site.sink.wait_at_dot(10)
    await postgres.stop("immediate")
    if redis is not None:
        await redis.kill()
    site.sink.release()
    await site.accepted(10)
    return campaign, worker


async def gone_in_time(worker: WorkerProcess) -> None:
    signalled_at = time.monotonic()
    worker.send(signal.SIGTERM)
    await worker.ended()
    assert time.monotonic() - signalled_at < DRAIN_SECONDS + SLACK_SECONDS


async def ten_spooled(site: Site) -> bool:
    return await spooled(site) == 10


async def spooled(site: Site) -> int:
    async with site.redis() as client:
        return int(await client.xlen(f"{site.prefix}:campaign-worker:outcomes"))
