"""A worker that sends through Resend's API: killed, stopped, answered late or never; one mail."""

from __future__ import annotations

import itertools
import signal
from collections import Counter

import pytest

from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.fixtures.resend import API_KEY, Fault, Refuse, ResendApi
from tests.support import eventually

RECIPIENTS = 30
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


@pytest.fixture
def site(make_site: SiteMaker, resend_api: ResendApi) -> Site:
    return make_site(secrets=(API_KEY,), env={"SMTP_URL": resend_api.url})


async def sent_once(site: Site, campaign: Campaign, api: ResendApi) -> None:
    """Wait until every row is sent, and look at what the provider has really executed."""

    async def all_sent() -> bool:
        states = await states_of(site, campaign)
        assert set(states) <= {"sent", "sending", "scheduled"}, states
        return states == Counter(sent=len(campaign.addresses))

    await eventually(all_sent, 30, says="every row is sent")
    executed = Counter(mail["to"][0] for mail in api.mails)
    assert executed == Counter(campaign.addresses.values())


async def states_of(site: Site, campaign: Campaign) -> Counter[str]:
    async with site.postgres() as connection:
        rows = await connection.fetch(
            "SELECT state FROM campaign_worker.messages WHERE campaign_id = $1", campaign.id
        )
    return Counter(row["state"] for row in rows)


async def test_a_campaign_goes_out_through_the_api(site: Site, resend_api: ResendApi) -> None:
    campaign = await site.campaign(RECIPIENTS)
    await site.ready("worker")
    await site.add(campaign)
    await sent_once(site, campaign, resend_api)
    assert len(set(resend_api.keys)) == RECIPIENTS
    checked = await site.cli("check")
    assert "transport default" in checked.stdout
    assert checked.code == 0


async def test_a_worker_killed_while_requests_are_executed_sends_nothing_twice(
    site: Site, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.SLOW] * AT_ONCE
    campaign = await site.campaign(RECIPIENTS)
    first = await site.ready("first", **IMPATIENT)
    await site.add(campaign)
    await eventually(lambda: len(resend_api.mails) == AT_ONCE, 15)
    await first.kill()
    resend_api.released.set()
    await site.ready("second", **IMPATIENT)
    await sent_once(site, campaign, resend_api)
    # They were asked about again, and not sent anew.
    assert len(resend_api.requests) >= RECIPIENTS + AT_ONCE
    assert len(set(resend_api.requests)) == RECIPIENTS


async def test_a_stop_that_cuts_requests_off_leaves_them_to_the_next_worker(
    site: Site, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.SLOW] * AT_ONCE
    campaign = await site.campaign(RECIPIENTS)
    first = await site.ready("first", CONCURRENCY=str(AT_ONCE), DRAIN_SECONDS="8")
    await site.add(campaign)
    await eventually(lambda: len(resend_api.mails) == AT_ONCE, 15)
    first.send(signal.SIGTERM)
    await first.ended(15)
    assert set(await states_of(site, campaign)) <= {"sent", "scheduled"}
    resend_api.released.set()
    await site.ready("second", CONCURRENCY=str(AT_ONCE), RECONCILE_INTERVAL_SECONDS="0.3")
    await sent_once(site, campaign, resend_api)


async def test_an_unruly_api_loses_nothing_and_sends_nothing_twice(
    site: Site, resend_api: ResendApi
) -> None:
    faults = [
        Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.ERROR_BEFORE, Fault.ERROR_AFTER,
        Refuse(429, "rate_limit_exceeded", retry_after="1"),
        Refuse(409, "concurrent_idempotent_requests"), None,
    ]  # fmt: skip
    resend_api.faults = list(itertools.islice(itertools.cycle(faults), 2 * RECIPIENTS))
    campaign = await site.campaign(RECIPIENTS)
    await site.ready("worker", **IMPATIENT)
    await site.add(campaign, attempts=1)
    await sent_once(site, campaign, resend_api)
    assert len(set(resend_api.requests)) == RECIPIENTS
