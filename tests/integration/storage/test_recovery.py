"""What the reconciler finds in the ledger: expired leases, overdue rows, finished campaigns."""

from __future__ import annotations

import asyncio
import time

import pytest

from campaign_worker.delivery.claims import Claimed, Final, GoesAlone, MessageState, NotYet
from campaign_worker.delivery.revival import BEGINNING, Resolved
from campaign_worker.delivery.settlements import FailReason, MarkFailed, MarkInDoubt, MarkRetry
from campaign_worker.errors import DatabaseAway, ReconcilerTaken
from campaign_worker.storage.recovery import PostgresRecovery, RecoveryOptions, whole_rows
from campaign_worker.storage.steadiness import Steadiness
from tests.integration.storage.kit import JOB, MESSAGE_ID, World, accepted, inline, opened
from tests.support import TcpProxy, eventually


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
    for number in range(5):
        claim = await world.ledger.claim(request, f"t{number}", JOB, alone=True)
        if not isinstance(claim, Claimed):
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
    assert last.inline is None, "what may be large is read when it is needed"
    whole = [row async for page in whole_rows(world.database, ids) for row in page]
    assert [row.inline for row in whole] == [None] * 5 + [inline("k").mail]


async def test_mails_that_rows_carry_are_read_a_few_megabytes_at_a_time(world: World) -> None:
    for key, megabytes in zip("abcde", (1, 2, 3, 9, 1), strict=True):
        await world.claim(inline(key, text="x" * megabytes * 10**6))
    await expire(world)
    await world.recovery().resolve_expired()
    ids = [row["id"] for row in await world.rows("SELECT id FROM $messages")]
    pages = [page async for page in whole_rows(world.database, [*ids, 0])]
    assert [[row.idempotency_key for row in page] for page in pages] == [
        ["a", "b"], ["c"], ["d"], ["e"],
    ]  # fmt: skip
    await world.sent(inline("b"))
    (page,) = [page async for page in whole_rows(world.database, ids[:2])]
    assert [row.idempotency_key for row in page] == ["a"]


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


async def test_a_campaign_that_is_enqueued_again_while_it_is_completed_runs_on(
    world: World,
) -> None:
    campaign = await world.campaign()
    await world.sent(campaign.request())
    async with world.raw.transaction():
        await world.execute(
            "INSERT INTO $recipients (campaign_id, email) VALUES ($1, 'late@x.example')",
            campaign.id,
        )
        await world.execute("UPDATE $campaigns SET status = 'running'")
        # It has seen no row of this transaction.
        completing = asyncio.create_task(world.recovery().complete_campaigns())
        await eventually(world.somebody_waits_for_a_lock)
    assert await completing == []
    assert await world.campaigns.status(campaign.id) == "running"


async def test_a_campaign_with_a_recipient_who_has_no_first_mail_stays_open(world: World) -> None:
    campaign = await world.campaign(2)
    recovery = world.recovery()
    await world.sent(campaign.request(0))
    assert await recovery.complete_campaigns() == []
    # Neither does a follow-up stand for the mail before it.
    await world.execute(
        "INSERT INTO $messages (campaign_id, recipient_id, step) VALUES ($1, $2, 1)",
        campaign.id,
        campaign.recipients[1],
    )
    await world.execute("UPDATE $messages SET state = 'skipped', reason = 'x' WHERE step = 1")
    assert await recovery.complete_campaigns() == []
    last = await world.marked(campaign.request(1))
    assert await recovery.complete_campaigns() == [], "a mail is on its way"
    await world.settle(last, accepted(last))
    assert await recovery.complete_campaigns() == [campaign.id]


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


async def test_a_row_that_lost_its_owners_too_often_is_quarantined(world: World) -> None:
    campaign = await world.campaign()
    recovery = world.recovery(quarantine_deaths=3)
    resolved = []
    for death in range(3):
        claim = await world.ledger.claim(campaign.request(), f"t{death}", JOB, alone=death >= 2)
        assert isinstance(claim, Claimed)
        await expire(world)
        resolved.append(await recovery.resolve_expired())
    assert resolved == [Resolved(1), Resolved(1), Resolved(quarantined=1)]
    row = await world.row(campaign.request())
    assert (row["state"], row["reason"], row["deaths"]) == ("failed", "quarantined", 3)
    assert await world.counts(campaign) == {"failed": 1}
    (shown,) = await world.campaigns.overview(5)
    assert (shown["quarantined"], shown["in_doubt_count"]) == (1, 0)
    final = await world.claim(campaign.request())
    assert final == Final(MessageState.FAILED, "quarantined", None)


async def test_a_row_that_lost_two_owners_is_claimed_only_alone(world: World) -> None:
    campaign = await world.campaign()
    await world.campaigns.fan_out(campaign.id, "campaign")
    await world.execute("UPDATE $messages SET deaths = 2")
    assert await world.claim(campaign.request()) == GoesAlone()
    assert await world.state(campaign.request()) == "scheduled"
    claim = await world.ledger.claim(campaign.request(), "t", JOB, alone=True)
    assert isinstance(claim, Claimed)


async def test_what_may_have_been_sent_is_in_doubt_and_never_quarantined(world: World) -> None:
    claim = await world.marked((await world.campaign()).request())
    await expire(world)
    recovery = world.recovery(quarantine_deaths=1, resend_ambiguous=True)
    assert await recovery.resolve_expired() == Resolved(in_doubt=1), "it is not sent again either"
    assert await world.state(claim) == "in_doubt"


async def test_one_replica_reconciles_at_a_time_until_its_lease_is_over(world: World) -> None:
    first, second = (world.recovery(owner=name, hold_seconds=60.0) for name in ("a", "b"))
    await first.resolve_expired()
    with pytest.raises(ReconcilerTaken) as taken:
        await second.resolve_expired()
    assert 50 < taken.value.seconds_left <= 60
    await world.execute("UPDATE $reconciler SET until = now() - interval '1 s'")
    await second.resolve_expired()
    with pytest.raises(ReconcilerTaken):
        await first.complete_campaigns()


async def test_a_lease_that_is_given_up_is_free_at_once(world: World) -> None:
    first, second = (world.recovery(owner=name, hold_seconds=60.0) for name in ("a", "b"))
    await first.take()
    await first.release()
    await second.take()
    await first.release()
    with pytest.raises(ReconcilerTaken):
        await first.take()


async def test_a_replica_that_was_overtaken_gives_nobody_else_s_lease_up(world: World) -> None:
    first = world.recovery(owner="a", hold_seconds=0.0)
    second, third = (world.recovery(owner=name, hold_seconds=60.0) for name in ("b", "c"))
    await first.take()
    await second.take()
    await first.release()
    with pytest.raises(ReconcilerTaken):
        await third.take()


async def test_reading_keeps_a_lease_of_which_less_than_half_is_left(world: World) -> None:
    first, second = (world.recovery(owner=name, hold_seconds=60.0) for name in ("a", "b"))
    await first.take()
    await world.execute("UPDATE $reconciler SET until = now() + interval '29 s'")
    await first.due_rows(BEGINNING, 1, every=False)
    with pytest.raises(ReconcilerTaken) as taken:
        await second.take()
    assert taken.value.seconds_left > 50


async def test_a_replica_that_was_overtaken_and_has_the_lease_again_begins_its_tick_anew(
    world: World,
) -> None:
    first, second = (world.recovery(owner=name, hold_seconds=0.0) for name in ("a", "b"))
    await first.take()
    await second.take()
    with pytest.raises(ReconcilerTaken):
        await first.resolve_expired()
    await first.resolve_expired()


async def test_an_operator_takes_the_lease_from_whoever_has_it(world: World) -> None:
    worker, operator = (world.recovery(owner=name, hold_seconds=60.0) for name in ("a", "b"))
    await worker.take()
    await operator.take(by_force=True)
    with pytest.raises(ReconcilerTaken):
        await worker.resolve_expired()


async def test_two_that_want_a_free_lease_at_once_do_not_both_get_it(world: World) -> None:
    rivals = [world.recovery(owner=str(number), hold_seconds=60.0) for number in range(5)]
    answers = await asyncio.gather(*(one.take() for one in rivals), return_exceptions=True)
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, ReconcilerTaken) for answer in answers) == 4


async def test_after_an_outage_that_we_saw_no_lease_is_resolved_for_one_full_lease(
    database_url: str, world: World
) -> None:
    lease_seconds = 1.0
    await world.claimed((await world.campaign()).request())
    await expire(world)
    async with TcpProxy(database_url) as proxy, opened(proxy.url, pool_size=2) as database:
        options = RecoveryOptions(lease_seconds=lease_seconds, overdue_seconds=0.0)
        recovery = PostgresRecovery(database, options, owner="test")
        proxy.refuse()
        proxy.cut()
        away_at = time.monotonic()

        async def away_for_a_third_of_a_lease() -> bool:
            with pytest.raises(DatabaseAway):
                await recovery.resolve_expired()
            return time.monotonic() - away_at > lease_seconds / 3

        await eventually(away_for_a_third_of_a_lease)
        proxy.pass_all()
        back_at = time.monotonic()
        assert await recovery.resolve_expired() == Resolved()

        async def resolved() -> bool:
            return await recovery.resolve_expired() == Resolved(1)

        await eventually(resolved)
        assert time.monotonic() - back_at >= lease_seconds


async def test_one_broken_connection_postpones_nothing(database_url: str, world: World) -> None:
    await world.claimed((await world.campaign()).request())
    await expire(world)
    async with TcpProxy(database_url) as proxy, opened(proxy.url, pool_size=1) as database:
        # Longer than this test may take; that of Postgres itself, which is young, is not asked for.
        options = RecoveryOptions(lease_seconds=0.0, overdue_seconds=0.0)
        recovery = PostgresRecovery(database, options, owner="test")
        recovery._steadiness = steadiness = Steadiness(lease_seconds=600.0)
        database.watch(steadiness)
        await recovery.take()
        proxy.cut()
        with pytest.raises(DatabaseAway):
            await recovery.resolve_expired()
        assert await recovery.resolve_expired() == Resolved(1)


async def test_a_follow_up_that_never_had_a_job_is_met_sooner(world: World) -> None:
    campaign = await world.campaign(3)
    await world.follow_up(campaign)
    for index in range(3):
        await world.sent(campaign.request(index))
    recovery = world.recovery(overdue_seconds=120.0, jobless_seconds=5.0)
    assert await recovery.jobless_rows(10) == []
    ages = {0: 4, 1: 6, 2: 130}
    for index, age in ages.items():
        await world.execute(
            "UPDATE $messages SET due_at = now() - make_interval(secs => $2)"
            " WHERE step = 1 AND recipient_id = $1",
            campaign.recipients[index],
            age,
        )
    met = [row.recipient_id for row in await recovery.jobless_rows(10)]
    assert met == [campaign.recipients[1]]
    overdue = await recovery.due_rows(BEGINNING, 10, every=False)
    assert [row.recipient_id for row in overdue] == [campaign.recipients[2]]
    await world.execute("UPDATE $messages SET job_id = 'x' WHERE step = 1")
    assert await recovery.jobless_rows(10) == []


async def test_a_campaign_that_runs_again_is_told_whoever_resumed_it(world: World) -> None:
    campaign, other = await world.campaign(status="paused"), await world.campaign()
    recovery = world.recovery()
    assert await recovery.resumed_campaigns() == []
    await world.execute("UPDATE $campaigns SET status = 'running' WHERE id = $1", campaign.id)
    (resumed,) = await recovery.resumed_campaigns()
    assert (resumed.campaign_id, resumed.settled) == (campaign.id, False)
    await world.execute("UPDATE $campaigns SET resumed_at = now() - interval '31 s'")
    await world.execute("UPDATE $campaigns SET resumed_at = NULL WHERE id = $1", other.id)
    (settled,) = await recovery.resumed_campaigns()
    assert settled.settled
    await recovery.resumption_over(resumed)
    assert await recovery.resumed_campaigns() == [settled], "resumed again meanwhile"
    await recovery.resumption_over(settled)
    assert await recovery.resumed_campaigns() == []
    await world.execute("UPDATE $campaigns SET resumed_at = now(), status = 'running'")
    await world.execute("UPDATE $campaigns SET status = 'paused' WHERE id = $1", campaign.id)
    assert [one.campaign_id for one in await recovery.resumed_campaigns()] == [other.id]
