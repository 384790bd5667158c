"""A Redis that is there and takes no writes, as its memory is full: an outage, no mail's fault."""

from __future__ import annotations

from campaign_worker.embedded.redis import RedisServer
from tests.acceptance.evidence import flawless
from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.support import eventually

MAILS = 4


async def test_follow_ups_that_a_full_redis_refuses_come_later_and_no_attempt_is_spent(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site = make_site(redis_url=mortal_redis.url, env={"RECONCILE_INTERVAL_SECONDS": "0.3"})
    campaign = await site.campaign(MAILS, follow_up_seconds=0)
    site.sink.hold()
    worker = await site.ready("worker", RECONCILE_OVERDUE_SECONDS="0")
    # Whoever has one attempt only has none for our outages.
    await site.add(campaign, attempts=1)
    await site.sink.wait_at_dot(MAILS)
    async with site.redis() as client:
        await client.config_set("maxmemory", "1")
        site.sink.release()
        await eventually(lambda: first_mails_are_sent(site, campaign), 10)
        await worker.says("follow-up left to the reconciler")
        await client.config_set("maxmemory", "0")
    assert await site.finished(campaign, 20) == flawless(2 * MAILS)


async def first_mails_are_sent(site: Site, campaign: Campaign) -> bool:
    rows = (await site.reading(campaign)).rows
    return sum(row["state"] == "sent" for row in rows) == MAILS


async def test_a_redis_that_may_forget_jobs_is_named_at_the_start(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site = make_site(redis_url=mortal_redis.url)
    async with site.redis() as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
    worker = await site.ready("worker")
    (said,) = worker.records("Redis will not do")
    assert said["problem"] == "maxmemory-policy is allkeys-lru: a full Redis drops jobs"
    assert said["level"] == "error"
