"""A worker that is killed or frozen in mid-run: another takes over, and nothing goes twice."""

from __future__ import annotations

from tests.acceptance.site import Campaign, Site
from tests.support import eventually

MAILS = 120
AT_ONCE = 10
# What is long in production, so that nothing is taken from the living, is short here.
IMPATIENT = {
    "CONCURRENCY": str(AT_ONCE),
    "LOCK_DURATION_MS": "1000",
    "STALLED_INTERVAL_MS": "500",
    "SEND_TIMEOUT": "1.5",
    "LEASE_SECONDS": "2",
    "RECONCILE_INTERVAL_SECONDS": "0.3",
}


async def test_sigkill_in_mid_run_loses_nothing_and_sends_nothing_twice(site: Site) -> None:
    first = await site.ready("first", **IMPATIENT)
    campaign = await in_mid_run(site)
    await first.kill()
    assert len(site.sink.mails) < 2 * MAILS
    await site.ready("second", **IMPATIENT)
    await adds_up(site, campaign, cut_off=AT_ONCE)


async def test_three_kills_in_a_row_lose_nothing_and_send_nothing_twice(site: Site) -> None:
    worker = await site.ready("worker-0", **IMPATIENT)
    campaign = await in_mid_run(site)
    for number in (1, 2, 3):
        await site.accepted(20 + 25 * number)
        await worker.kill()
        worker = await site.ready(f"worker-{number}", **IMPATIENT)
    await adds_up(site, campaign, cut_off=3 * AT_ONCE)


async def test_a_frozen_worker_that_wakes_after_its_rows_were_taken_sends_nothing_twice(
    site: Site,
) -> None:
    frozen = await site.ready("frozen", **IMPATIENT)
    campaign = await in_mid_run(site)
    frozen.freeze()
    await site.ready("rival", **IMPATIENT)
    await eventually(lambda: rows_were_taken(site), 10, says="the rows were taken over")
    frozen.thaw()
    await adds_up(site, campaign, cut_off=AT_ONCE)
    assert frozen.running


async def in_mid_run(site: Site) -> Campaign:
    """Have about a sixth of the first mails accepted, others in flight and follow-ups coming."""
    site.sink.latency_ms = 100
    campaign = await site.campaign(MAILS, follow_up_seconds=1)
    await site.add(campaign)
    await site.accepted(20)
    return campaign


async def rows_were_taken(site: Site) -> bool:
    async with site.postgres() as connection:
        dead = "SELECT count(*) FROM campaign_worker.messages WHERE deaths > 0"
        return bool(await connection.fetchval(dead))


async def adds_up(site: Site, campaign: Campaign, *, cut_off: int) -> None:
    """Nothing lost or twice; no more in doubt than mails were cut off after their mark."""
    verdict = await site.finished(campaign, 30)
    doubts = verdict.states.get("in_doubt", 0)
    assert doubts <= cut_off
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)
    # A follow-up goes out only after a mail that is known to be sent.
    assert verdict.states.keys() <= {"sent", "in_doubt"}
    assert verdict.states["sent"] >= 2 * (len(campaign.recipients) - doubts)
