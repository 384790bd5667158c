"""An operator's retry: what ran out of attempts or owners goes out after all, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from campaign_worker.delivery.claims import Claimed, Final, GoesAlone, NotYet
from campaign_worker.delivery.requests import JobRef
from campaign_worker.delivery.settlements import FailReason, MarkFailed
from campaign_worker.storage.doubts import Selection
from campaign_worker.storage.failures import Failures
from tests.integration.storage.kit import JOB

if TYPE_CHECKING:
    from tests.integration.storage.kit import Seeded, World


async def failed(
    world: World, campaign: Seeded, index: int = 0, reason: FailReason = FailReason.EXHAUSTED
) -> Claimed:
    """Let a mail of a campaign fail."""
    claim = await world.marked(campaign.request(index))
    await world.settle(claim, MarkFailed(reason, "451 later", attempt_spent=True))
    return claim


async def quarantined(world: World, campaign: Seeded) -> int:
    """Let a mail lose three owners, as many as it may."""
    for number in range(3):
        token = f"t{number}"
        claim = await world.ledger.claim(campaign.request(), token, JOB, alone=number > 1)
        assert isinstance(claim, Claimed)
        await world.execute("UPDATE $messages SET lease_until = now() - interval '1 s'")
        await world.recovery(quarantine_deaths=3).resolve_expired()
    row = await world.row(campaign.request())
    assert (row["state"], row["reason"]) == ("failed", "quarantined")
    return int(row["id"])


async def test_an_exhausted_mail_has_all_its_attempts_again_and_is_due_at_once(
    world: World,
) -> None:
    campaign = await world.campaign()
    claim = await failed(world, campaign)
    (due,) = await Failures(world.database).retry(Selection((claim.id,)))
    assert (due.id, due.job_id) == (claim.id, "job-1")
    row = await world.row(claim)
    assert (row["state"], row["attempts"], row["reason"]) == ("scheduled", 0, None)
    again = await world.claimed(campaign.request())
    assert again.content == claim.content
    assert await world.campaigns.untrue_counts() == []


async def test_a_quarantined_mail_goes_alone_and_is_set_apart_again_if_it_still_kills(
    world: World,
) -> None:
    campaign = await world.campaign()
    row_id = await quarantined(world, campaign)
    await Failures(world.database).retry(Selection(campaign_id=campaign.id))
    assert await world.claim(campaign.request()) == GoesAlone()
    claim = await world.ledger.claim(campaign.request(), "t", JOB, alone=True)
    assert isinstance(claim, Claimed)
    await world.execute("UPDATE $messages SET lease_until = now() - interval '1 s'")
    await world.recovery(quarantine_deaths=3).resolve_expired()
    assert (await world.row(row_id))["reason"] == "quarantined"


@pytest.mark.parametrize(
    "reason", [FailReason.HARD_BOUNCE, FailReason.REJECTED, FailReason.RENDER_ERROR]
)
async def test_what_was_refused_for_good_is_neither_listed_nor_retried(
    world: World, reason: FailReason
) -> None:
    claim = await failed(world, await world.campaign(), reason=reason)
    before = await world.row(claim)
    failures = Failures(world.database)
    assert await failures.list(Selection(), 10) == []
    assert await failures.retry(Selection((claim.id,))) == []
    assert await world.row(claim) == before


async def test_an_exhausted_mail_that_bounced_later_stays_failed(world: World) -> None:
    claim = await failed(world, await world.campaign())
    await world.execute("UPDATE $messages SET bounced_at = now()")
    assert await Failures(world.database).retry(Selection()) == []
    assert await world.state(claim) == "failed"


async def test_only_the_mails_that_are_meant_are_listed_and_retried(world: World) -> None:
    campaign, other = await world.campaign(2), await world.campaign()
    mine = [await failed(world, campaign, index) for index in range(2)]
    theirs = await failed(world, other)
    failures = Failures(world.database)
    rows = await failures.list(Selection(campaign_id=campaign.id), 10)
    assert [row["id"] for row in rows] == [claim.id for claim in mine]
    assert rows[0]["detail"] == "451 later"
    assert len(await failures.list(Selection(), 2)) == 2
    assert len(await failures.retry(Selection(campaign_id=campaign.id))) == 2
    assert await world.state(theirs) == "failed"


async def test_a_completed_campaign_runs_again_with_what_is_retried(world: World) -> None:
    campaign, other = await world.campaign(), await world.campaign()
    for one in (campaign, other):
        await failed(world, one)
    recovery = world.recovery()
    assert await recovery.complete_campaigns() == [campaign.id, other.id]
    await Failures(world.database).retry(Selection(campaign_id=campaign.id))
    assert await world.campaigns.status(campaign.id) == "running"
    assert await world.campaigns.status(other.id) == "completed"
    assert await recovery.complete_campaigns() == []
    # So that it can be stopped.
    assert await world.campaigns.change_status(campaign.id, before="running", after="paused")
    assert isinstance(await world.claim(campaign.request()), NotYet)


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'quarantined'",
        "bounced_at = now()",
        "job_id = 'another'",
        "queue = 'another'",
        "job_attempts = 1",
    ],
)
async def test_a_retried_job_reopens_only_what_ran_out_of_attempts_by_it(
    world: World, change: str
) -> None:
    retried = JobRef(JOB.queue, JOB.job_id, JOB.attempts_made + 1)
    campaign = await world.campaign(2)
    mine, other = [await failed(world, campaign, index) for index in range(2)]
    await world.execute(f"UPDATE $messages SET {change} WHERE id = $1", other.id)
    assert isinstance(await world.ledger.claim(campaign.request(0), "t0", retried), Claimed)
    claim = await world.ledger.claim(campaign.request(1), "t1", retried)
    assert isinstance(claim, Final), claim
    assert await world.state(mine) == "sending"
    assert await world.state(other) == "failed"
