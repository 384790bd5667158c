"""What the reconciler finds in the ledger: expired leases, overdue rows, finished campaigns."""

from __future__ import annotations

import asyncio

import pytest

from campaign_worker.delivery.claims import Claimed, NotYet
from campaign_worker.delivery.revival import BEGINNING, Resolved
from campaign_worker.delivery.settlements import FailReason, MarkFailed, MarkInDoubt, MarkRetry
from tests.integration.storage.kit import MESSAGE_ID, World, accepted, inline


async def expire(world: World) -> None:
    await world.execute(
        "UPDATE $messages SET lease_until = now() - interval '1 s' WHERE state = 'sending'"
    )


async def test_a_lease_that_ran_out_before_the_mark_schedules_the_row(world: World) -> None:
    claim = await world.claimed((await world.campaign()).request())
    await expire(world)
    assert await world.recovery().resolve_expired() == Resolved(1, 0, 0)
    row = await world.row(claim)
    assert (row["state"], row["deaths"], row["attempts"]) == ("scheduled", 1, 0)
    await world.claimed((await world.campaign()).request())


async def test_a_lease_that_ran_out_after_the_mark_leaves_the_row_in_doubt(world: World) -> None:
    campaign = await world.campaign()
    claim = await world.marked(campaign.request())
    await expire(world)
    assert await world.recovery().resolve_expired() == Resolved(0, 1, 0)
    row = await world.row(claim)
    assert (row["state"], row["reason"]) == ("in_doubt", "owner_lost_after_mark")
    assert (row["deaths"], row["token"]) == (1, claim.token)
    assert await world.counts(campaign) == {"in_doubt": 1}


async def test_policy_resend_tries_an_unknown_outcome_again_but_not_for_ever(
    world: World,
) -> None:
    request = (await world.campaign()).request()
    recovery = world.recovery(resend_ambiguous=True)
    found = []
    for _ in range(5):
        if not isinstance(await world.claim(request), Claimed):
            break
        await world.execute("UPDATE $messages SET marked_at = now()")
        await expire(world)
        found.append(await recovery.resolve_expired())
    assert found == [Resolved(0, 0, 1), Resolved(0, 0, 1), Resolved(0, 1, 0)]
    assert await world.state(request) == "in_doubt"
    assert await world.campaigns.untrue_counts() == []


async def test_live_leases_are_left_alone(world: World) -> None:
    campaign = await world.campaign(2)
    await world.claimed(campaign.request(0))
    await world.marked(campaign.request(1))
    assert await world.recovery().resolve_expired() == Resolved(0, 0, 0)
    assert await world.state(campaign.request(0)) == "sending"


async def test_postgres_that_has_just_started_honours_leases_once_more(world: World) -> None:
    await world.claimed((await world.campaign()).request())
    await expire(world)
    # Longer than this Postgres has been running.
    fresh = world.recovery(lease_seconds=86_400.0)
    assert await fresh.resolve_expired() == Resolved(0, 0, 0)
    assert await world.recovery().resolve_expired() == Resolved(1, 0, 0)


async def test_two_replicas_resolve_each_row_once(world: World) -> None:
    campaign = await world.campaign(20)
    await asyncio.gather(*(world.claimed(campaign.request(n)) for n in range(20)))
    await expire(world)
    both = await asyncio.gather(
        world.recovery().resolve_expired(), world.recovery().resolve_expired()
    )
    assert sum(one.scheduled for one in both) == 20
    assert await world.value("SELECT sum(deaths) FROM $messages") == 20


async def test_overdue_rows_come_in_pages_with_what_is_known_of_their_jobs(world: World) -> None:
    campaign = await world.campaign(5)
    assert await world.campaigns.fan_out(campaign.id, "campaign") == 5
    assert isinstance(await world.claim(inline("k", campaign_id=None)), Claimed)
    await expire(world)
    recovery = world.recovery()
    await recovery.resolve_expired()
    first = await recovery.due_rows(BEGINNING, 4, every=False)
    second = await recovery.due_rows(first[-1].cursor, 4, every=False)
    assert (len(first), len(second)) == (4, 2)
    ids = [row.id for row in (*first, *second)]
    assert ids == sorted(set(ids))
    assert (first[0].campaign_id, first[0].queue, first[0].job_id) == (
        campaign.id,
        "campaign",
        None,
    )
    last = second[-1]
    assert (last.idempotency_key, last.job_id, last.campaign_id) == ("k", "job-1", None)
    assert last.inline == inline("k").mail


async def test_rows_that_are_not_due_or_at_rest_need_no_job(world: World) -> None:
    running, cancelled = await world.campaign(2), await world.campaign()
    paused, draft = await world.campaign(), await world.campaign()
    for campaign in (running, cancelled, paused, draft):
        await world.campaigns.fan_out(campaign.id, "campaign")
    await world.settle(await world.claimed(running.request(0)), MarkRetry("451", 60))
    for campaign, status in [(cancelled, "cancelled"), (paused, "paused"), (draft, "draft")]:
        await world.execute("UPDATE $campaigns SET status = $2 WHERE id = $1", campaign.id, status)
    due = await world.recovery().due_rows(BEGINNING, 100, every=False)
    found = {row.campaign_id for row in due}
    # A cancelled campaign's rows are still to be skipped; a paused one's wait for its end.
    assert found == {running.id, cancelled.id}
    assert len(due) == 2
    patient = world.recovery(overdue_seconds=3600.0)
    assert await patient.due_rows(BEGINNING, 100, every=False) == []
    # A retry that is due later is looked at when Redis has lost its job.
    assert len(await patient.due_rows(BEGINNING, 100, every=True)) == 3


async def test_a_campaign_is_complete_when_nothing_of_it_is_open(world: World) -> None:
    campaign = await world.campaign(2)
    recovery = world.recovery()
    await world.follow_up(campaign)
    first = await world.sent(campaign.request(0))
    assert await recovery.complete_campaigns() == [], "a recipient has no row"
    failing = await world.marked(campaign.request(1))
    await world.settle(failing, MarkFailed(FailReason.HARD_BOUNCE, "550", attempt_spent=True))
    assert await recovery.complete_campaigns() == [], "a follow-up is open"
    await world.sent(campaign.request(0, step=1))
    assert await recovery.complete_campaigns() == [campaign.id]
    assert await recovery.complete_campaigns() == []
    row = await world.value("SELECT completed_at FROM $campaigns WHERE id = $1", campaign.id)
    assert row is not None
    assert await world.state(first) == "sent"


@pytest.mark.parametrize("status", ["draft", "paused", "cancelled"])
async def test_only_running_campaigns_are_completed(world: World, status: str) -> None:
    campaign = await world.campaign()
    await world.sent(campaign.request())
    await world.execute("UPDATE $campaigns SET status = $1", status)
    assert await world.recovery().complete_campaigns() == []


async def test_a_campaign_without_recipients_or_in_doubt_stays_open(world: World) -> None:
    await world.campaign(0)
    campaign = await world.campaign()
    await world.settle(await world.marked(campaign.request()), MarkInDoubt("<a@b>", "lost"))
    assert await world.recovery().complete_campaigns() == []


async def test_a_row_that_waits_for_a_paused_campaign_goes_out_after_it(world: World) -> None:
    campaign = await world.campaign(status="paused")
    assert isinstance(await world.claim(campaign.request()), NotYet)
    opened = await world.campaigns.open(campaign.id)
    assert opened is not None
    assert opened.status == "paused", "enqueueing does not overrule a pause"
    await world.execute("UPDATE $campaigns SET status = 'running'")
    claim = await world.claimed(campaign.request())
    await world.ledger.mark(claim.id, claim.token, MESSAGE_ID)
    await world.settle(claim, accepted(claim))
    assert await world.state(claim) == "sent"
