"""A worker that stands still for longer than its locks and leases live, and then goes on."""

from __future__ import annotations

import signal

import pytest

from campaign_worker.embedded.smtp_script import Moment, Question
from tests.acceptance.evidence import flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site
from tests.support import TcpProxy, eventually

# Two lock durations are over long before the row is given to somebody else.
SHORT = {
    "LOCK_DURATION_MS": "1000",
    "STALLED_INTERVAL_MS": "500",
    "SEND_TIMEOUT": "1.5",
    "LEASE_SECONDS": "2",
    "RECONCILE_INTERVAL_SECONDS": "0.3",
}


async def test_frozen_before_data_it_sends_nothing_more_when_it_thaws(site: Site) -> None:
    """The 250 to its RCPT lies in its socket: who goes on from there sends a second mail."""
    async with TcpProxy(site.sink.url) as proxy:
        asked = HoldsTheAnswerToRcpt(proxy)
        site.sink.script = asked
        frozen = await site.ready("frozen", SMTP_URL=proxy.url, **SHORT)
        campaign = await site.campaign(1)
        await site.add(campaign)
        await proxy.held_reply.wait()
        frozen.freeze()
        proxy.pass_all()
        await site.ready("rival", **SHORT)
        assert (await site.finished(campaign)).accepted == 1
        frozen.thaw()
        await has_noticed(frozen)
        assert len(site.mails_to(campaign)) == 1
        frozen.send(signal.SIGTERM)
        assert await frozen.ended() == 0
    verdict = await site.verdict(campaign)
    assert (verdict.accepted, verdict.states) == (1, {"sent": 1})
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)


@pytest.mark.parametrize("policy", ["hold", "resend"])
async def test_frozen_inside_data_the_row_is_in_doubt_and_only_resend_makes_a_second_mail(
    site: Site, policy: str
) -> None:
    async with TcpProxy(site.sink.url) as proxy:
        site.sink.hold()
        frozen = await site.ready("frozen", SMTP_URL=proxy.url, AMBIGUOUS_SEND=policy, **SHORT)
        campaign = await site.campaign(1)
        await site.add(campaign)
        await site.sink.wait_at_dot(1)
        frozen.freeze()
        # A real server keeps the mail and gives the connection up.
        proxy.refuse()
        site.sink.release()
        await site.accepted(1)
        await site.ready("rival", AMBIGUOUS_SEND=policy, **SHORT)
        verdict = await site.finished(campaign)
        frozen.thaw()
        await has_noticed(frozen)
        frozen.send(signal.SIGTERM)
        assert await frozen.ended() == 0
    verdict = await site.verdict(campaign)
    mails = site.mails_to(campaign)
    reading = await site.reading(campaign)
    if policy == "hold":
        assert (len(mails), verdict.states) == (1, {"in_doubt": 1})
        assert (reading.counts["in_doubt_count"], reading.counts["sent_count"]) == (1, 0)
        assert verdict.jobs_failed == 1
    else:
        assert verdict.states == {"sent": 1}
        assert [mail.message_id for mail in mails] == [mails[0].message_id] * 2
    assert (verdict.lost, reading.untrue_counts) == (0, 0)


async def test_an_idle_worker_that_was_frozen_works_on_when_it_thaws(site: Site) -> None:
    frozen = await site.ready("frozen", **SHORT)
    frozen.freeze()
    campaign = await site.campaign(3)
    await site.add(campaign)
    frozen.thaw()
    assert await site.finished(campaign) == flawless(3)


class HoldsTheAnswerToRcpt:
    """From the first RCPT on nothing of what the server says arrives."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self._done = False

    def __call__(self, question: Question) -> None:
        if question.moment is Moment.RCPT and not self._done:
            self._done = True
            self._proxy.hold_replies()


async def has_noticed(worker: WorkerProcess) -> None:
    """Wait until a thawed worker has nothing in flight any more."""

    async def idle() -> bool:
        return (await worker.health()).get("in_flight") == 0

    await eventually(idle, 10)


async def in_state(site: Site, campaign: Campaign, state: str) -> bool:
    return all(row["state"] == state for row in (await site.reading(campaign)).rows)
