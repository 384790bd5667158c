"""`campaign-worker enqueue`: rows first, jobs second, and both only once."""

from __future__ import annotations

from campaign_worker.embedded.redis import RedisServer
from tests.acceptance.evidence import flawless
from tests.acceptance.site import Campaign, Site, SiteMaker


async def test_a_second_run_adds_nothing_and_neither_does_one_in_mid_run(site: Site) -> None:
    campaign = await site.campaign(30, follow_up_seconds=0)
    for _ in range(2):
        done = await site.cli("enqueue", str(campaign.id))
        assert (done.code, done.stdout) == (
            0,
            f"campaign {campaign.id}: 30 pending mails, each with a job\n",
        )
        assert done.stderr == "", "a bar is for a terminal"
        assert (await site.job_counts())["waiting"] == 30
        assert await rows(site, campaign) == 30
    site.sink.hold()
    await site.ready("worker")
    await site.sink.wait_at_dot(10)
    assert (await site.cli("enqueue", str(campaign.id))).code == 0
    site.sink.release()
    assert await site.finished(campaign) == flawless(60)
    # All is over: there is nothing to add any more.
    assert (await site.cli("enqueue", str(campaign.id))).code == 0
    assert await site.finished(campaign) == flawless(60)


async def test_where_redis_goes_away_between_rows_and_jobs_the_next_run_adds_the_jobs(
    make_site: SiteMaker, mortal_redis: RedisServer
) -> None:
    site = make_site(redis_url=mortal_redis.url)
    campaign = await site.campaign(20)
    # Rows can be written, jobs cannot: a full Redis refuses them.
    async with site.redis() as client:
        await client.config_set("maxmemory", "1")
        failed = await site.cli("enqueue", str(campaign.id))
        assert failed.code == 1, failed.stderr
        assert await rows(site, campaign) == 20
        assert sum((await site.job_counts()).values()) == 0
        await client.config_set("maxmemory", "0")
    assert (await site.cli("enqueue", str(campaign.id))).code == 0
    assert (await site.job_counts())["waiting"] == 20
    assert await rows(site, campaign) == 20
    await site.ready("worker")
    assert await site.finished(campaign) == flawless(20)


async def rows(site: Site, campaign: Campaign) -> int:
    async with site.postgres() as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM campaign_worker.messages WHERE campaign_id = $1", campaign.id
            )
        )
