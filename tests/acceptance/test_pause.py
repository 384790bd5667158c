"""Paused campaigns wait without holding anybody up, and go on at once; lost jobs are recovered."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import JobSpec, Producer
from campaign_worker.sequence.jobs import mail_job
from tests.acceptance.evidence import flawless
from tests.acceptance.site import QUEUE, Campaign, Site
from tests.support import eventually

WAITING = 200_000
DELAY_SECONDS = 1.0
"""What another campaign's mail may lose to them."""


async def test_a_campaign_is_paused_and_resumed_by_command(site: Site) -> None:
    paused, other = await site.campaign(60), await site.campaign(20)
    said = await site.cli("pause", str(paused.id))
    assert (said.code, said.stdout.strip()) == (0, f"campaign {paused.id}: paused")
    await site.ready("worker")
    await site.add(paused)
    await site.add(other)
    assert (await eventually(lambda: sent_all(site, other), 15)) == 20
    assert await eventually(lambda: delayed(site, 60))
    assert site.mails_to(paused) == []
    resumed = await site.cli("resume", str(paused.id))
    assert (resumed.code, resumed.stdout.strip()) == (
        0,
        f"campaign {paused.id}: running, 60 jobs woken",
    )
    assert await site.finished(paused) == flawless(60)


async def test_a_campaign_that_the_app_sets_running_goes_on_by_itself(site: Site) -> None:
    campaign = await site.campaign(30)
    await set_status(site, campaign, "paused")
    await site.ready("worker", RECONCILE_INTERVAL_SECONDS="0.2")
    await site.add(campaign)
    assert await eventually(lambda: delayed(site, 30), 10)
    await set_status(site, campaign, "running")
    assert await site.finished(campaign) == flawless(30)


async def test_what_cannot_be_paused_or_resumed_is_said(site: Site) -> None:
    campaign = await site.campaign(1)
    await set_status(site, campaign, "cancelled")
    for command in ("pause", "resume"):
        unknown = await site.cli(command, "999999")
        assert (unknown.code, "no campaign 999999" in unknown.stderr) == (1, True)
        cancelled = await site.cli(command, str(campaign.id))
        assert (cancelled.code, "is cancelled" in cancelled.stderr) == (1, True)
        assert (await site.cli(command, "abc")).code == 1


async def test_recover_gives_every_scheduled_mail_a_job_again(site: Site) -> None:
    campaign = await site.campaign(40)
    assert (await site.cli("enqueue", str(campaign.id))).code == 0
    keys = QueueKeys(QUEUE, site.prefix)
    async with site.redis() as client:
        lost = [mail_job(campaign.id, one, 0).id for one in campaign.recipients[:25]]
        for job_id in lost[:10]:
            await client.delete(keys.job(job_id))
        for job_id in lost:
            await client.lrem(keys.of("wait"), 0, job_id)
    recovered = await site.cli("recover")
    assert recovered.code == 0
    assert recovered.stdout.strip() == "40 scheduled mails looked at, 25 jobs revived"
    again = await site.cli("recover")
    assert again.stdout.strip() == "40 scheduled mails looked at, 0 jobs revived"
    await site.ready("worker")
    assert await site.finished(campaign) == flawless(40)


async def test_recover_without_redis_fails_with_one_line(site: Site) -> None:
    failed = await site.cli("recover", REDIS_URL="redis://127.0.0.1:1")
    assert (failed.code, len(failed.stderr.strip().splitlines())) == (1, 1)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_200_000_waiting_jobs_of_a_paused_campaign_delay_anothers_mail_by_under_a_second(
    site: Site, record_testsuite_property: Callable[[str, object], None]
) -> None:
    paused, other = await site.campaign(1), await site.campaign(1)
    await set_status(site, paused, "paused")
    first = await more_recipients(site, paused, WAITING)
    await site.ready("worker")
    keys = QueueKeys(QUEUE, site.prefix)
    async with site.redis() as client:
        producer = Producer(client, QUEUE, site.prefix)
        alone = await latency(site, other, 1)
        # As Queue.pause() of bullmq 6 and resume() do it: all of them wait before anybody looks.
        of_6 = {"paused": "1", "version": "bullmq:6.7.0"}
        await client.hset(keys.of("meta"), mapping=of_6)
        for start in range(0, WAITING, 5000):
            jobs = [mail_job(paused.id, first + n, 0) for n in range(start, start + 5000)]
            await producer.add_many([JobSpec(one.name, one.data, one.id) for one in jobs])
        behind = await site.campaign(1)
        await site.add(behind)
        await client.hdel(keys.of("meta"), "paused")
        began_at = time.monotonic()
        await client.zadd(keys.of("marker"), {"0": 0})
        await eventually(lambda: sent_all(site, behind), 60)
        behind_all = time.monotonic() - began_at
    # The figure is for `--junitxml`; other tests run beside this one and share its processors.
    record_testsuite_property("delay_seconds", behind_all - alone)
    assert behind_all - alone < 10 * DELAY_SECONDS


async def more_recipients(site: Site, campaign: Campaign, count: int) -> int:
    """Give a campaign so many recipients more; the id of the first of them."""
    async with site.postgres() as connection:
        ids = await connection.fetch(
            "INSERT INTO campaign_worker.recipients (campaign_id, email)"
            " SELECT $1, 'many.' || n || '@people.example' FROM generate_series(1, $2::int) n"
            " RETURNING id",
            *(campaign.id, count),
        )
    return int(min(row["id"] for row in ids))


async def latency(site: Site, campaign: Campaign, mails: int) -> float:
    began_at = time.monotonic()
    await site.add(campaign)
    await eventually(lambda: len(site.mails_to(campaign)) == mails, 15)
    return time.monotonic() - began_at


async def set_status(site: Site, campaign: Campaign, status: str) -> None:
    async with site.postgres() as connection:
        await connection.execute(
            "UPDATE campaign_worker.campaigns SET status = $2 WHERE id = $1",
            *(campaign.id, status),
        )


async def sent_all(site: Site, campaign: Campaign) -> int:
    mails = len(site.mails_to(campaign))
    return mails if mails == len(campaign.recipients) else 0


async def delayed(site: Site, count: int) -> bool:
    return (await site.job_counts())["delayed"] == count
