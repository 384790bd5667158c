"""Bounces and complaints after the send: once each, on the right mail, and no mail after them."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from campaign_worker.delivery.settlements import MarkSent
from campaign_worker.errors import DatabaseAway
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.feedback import PostgresFeedback
from campaign_worker.tracking.webhooks import (
    Complaint,
    HardBounce,
    Provider,
    Recorded,
    Report,
    SoftBounce,
)
from metrics import Fanout
from tests.integration.storage.kit import Seeded, World, inline, world_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from campaign_worker.delivery.claims import Claimed

RESEND_ID = "56761188-7520-42d8-8898-ff6fc54ce618"
SES_ID = "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000"
NOW = datetime.now(UTC)


@pytest.fixture
async def feedback(world: World) -> AsyncIterator[PostgresFeedback]:
    """Return a store; every test leaves counts that are what the rows say."""
    yield store_over(world)
    assert await world.rows(world.database.sql["verify_counts"]) == []


def store_over(world: World) -> PostgresFeedback:
    return PostgresFeedback(world.database, normalize=normalize, listener=Fanout())


def report(kind: type[Any] = HardBounce, event_id: str = "e1", **fields: Any) -> Any:
    given: dict[str, Any] = {
        "provider": Provider.SES, "event_id": event_id, "addresses": (), "message_id": None,
        "provider_id": None, "occurred_at": NOW, "detail": "550 5.1.1",
    }  # fmt: skip
    return kind(**(given | fields))


def message_id_of(campaign: Seeded, index: int = 0, step: int = 0) -> str:
    return f"<{campaign.id}.{campaign.recipients[index]}.{step}.campaign-worker@example.org>"


async def sent(world: World, campaign: Seeded, index: int = 0, reply: str = "250 ok") -> Claimed:
    """Send a campaign's mail under its own Message-ID."""
    claim = await world.claimed(campaign.request(index))
    name = message_id_of(campaign, index)
    assert await world.ledger.mark(claim.id, claim.token, name)
    await world.settle(claim, MarkSent(name, reply))
    return claim


async def email_of(world: World, campaign: Seeded, index: int = 0) -> str:
    query = "SELECT email FROM $recipients WHERE id = $1"
    return str(await world.value(query, campaign.recipients[index]))


async def suppressed(world: World) -> dict[str, str]:
    rows = await world.rows("SELECT address, reason FROM $suppressions")
    return {row["address"]: row["reason"] for row in rows}


async def events(world: World) -> list[dict[str, Any]]:
    return await world.rows("SELECT * FROM $feedback_events ORDER BY event_id, address")


@pytest.mark.parametrize(
    ("kind", "column", "count", "reason"),
    [
        (HardBounce, "bounced_at", "bounced", "hard_bounce"),
        (Complaint, "complained_at", "complained", "complaint"),
    ],
)
async def test_a_report_marks_its_mail_suppresses_its_address_and_is_counted(
    world: World,
    feedback: PostgresFeedback,
    kind: type[Report],
    column: str,
    count: str,
    reason: str,
) -> None:
    campaign = await world.campaign(2)
    claim = await sent(world, campaign)
    email = await email_of(world, campaign)
    told = report(kind, addresses=(email.upper(),), message_id=message_id_of(campaign))
    assert await feedback.record(told) is Recorded.APPLIED
    row = await world.row(claim)
    assert row["state"] == "sent"
    assert row[column] == NOW
    assert await suppressed(world) == {email: reason}
    assert await world.counts(campaign) == {"sent": 1, count: 1}


async def test_a_soft_bounce_is_only_recorded(world: World, feedback: PostgresFeedback) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    email = await email_of(world, campaign)
    told = report(SoftBounce, addresses=(email,), message_id=message_id_of(campaign))
    assert await feedback.record(told) is Recorded.APPLIED
    (event,) = await events(world)
    assert (event["kind"], event["message_id"], event["address"]) == (
        "soft_bounce",
        claim.id,
        email,
    )
    assert (await world.row(claim))["bounced_at"] is None
    assert await suppressed(world) == {}


async def test_the_same_event_again_changes_nothing(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    told = report(addresses=("x@example.com",), message_id=message_id_of(campaign))
    assert await feedback.record(told) is Recorded.APPLIED
    await world.execute("DELETE FROM $suppressions")
    before = await world.row(claim)
    later = dataclasses.replace(told, occurred_at=NOW + timedelta(hours=1))
    assert await feedback.record(later) is Recorded.KNOWN
    assert await world.row(claim) == before
    assert await suppressed(world) == {}
    assert len(await events(world)) == 1


async def test_of_the_same_event_at_once_from_two_replicas_one_is_new(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    await sent(world, campaign)
    told = report(addresses=("x@example.com",), message_id=message_id_of(campaign))
    stores = [feedback, store_over(world), store_over(world)]
    said = await asyncio.gather(*(store.record(told) for store in stores for _ in range(4)))
    assert sorted(each.value for each in said) == ["applied", *["known"] * 11]
    assert (await world.counts(campaign))["bounced"] == 1


async def test_two_providers_may_name_events_alike(
    world: World, feedback: PostgresFeedback
) -> None:
    one = report(addresses=("x@example.com",))
    other = dataclasses.replace(one, provider=Provider.RESEND)
    assert [await feedback.record(each) for each in (one, other)] == [Recorded.APPLIED] * 2


async def test_a_second_bounce_keeps_the_time_of_the_first(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    name = message_id_of(campaign)
    await feedback.record(report(event_id="e1", message_id=name))
    await feedback.record(report(event_id="e2", message_id=name, occurred_at=NOW - timedelta(1)))
    assert (await world.row(claim))["bounced_at"] == NOW
    assert (await world.counts(campaign))["bounced"] == 1


async def test_a_complaint_beside_a_second_bounce_leaves_the_time_of_the_first(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    name = message_id_of(campaign)
    await feedback.record(report(event_id="e1", message_id=name))
    earlier = NOW - timedelta(hours=1)
    # Handed in together they are written together.
    await asyncio.gather(
        feedback.record(report(event_id="e2", message_id=name, occurred_at=earlier)),
        feedback.record(report(Complaint, "e3", message_id=name, occurred_at=earlier)),
    )
    row = await world.row(claim)
    assert (row["bounced_at"], row["complained_at"]) == (NOW, earlier)


async def test_scheduled_follow_ups_stop_with_their_reason(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign(2)
    await world.follow_up(campaign, delay_seconds=3600)
    for index in (0, 1):
        await sent(world, campaign, index)
    await feedback.record(report(Complaint, message_id=message_id_of(campaign)))
    row = await world.row(campaign.request(0, step=1))
    assert (row["state"], row["reason"]) == ("skipped", "suppressed_complaint")
    assert await world.state(campaign.request(1, step=1)) == "scheduled"
    assert (await world.counts(campaign))["skipped"] == 1


async def test_mails_of_other_campaigns_to_the_address_are_skipped_when_they_are_due(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign, other = await world.campaign(), await world.campaign()
    await sent(world, campaign)
    email = await email_of(world, campaign)
    await world.execute(
        "UPDATE $recipients SET email = $1 WHERE id = $2", email.title(), other.recipients[0]
    )
    await feedback.record(report(message_id=message_id_of(campaign)))
    await world.claim(other.request())
    row = await world.row(other.request())
    assert (row["state"], row["reason"]) == ("skipped", "suppressed_hard_bounce")


async def test_a_follow_up_whose_request_may_have_been_executed_is_left_to_its_claim(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign)
    await sent(world, campaign)
    await world.execute(
        "UPDATE $messages SET transport='t', request='x', first_marked_at=now(), replay_until=now()"
        " WHERE step = 1"
    )
    await feedback.record(report(message_id=message_id_of(campaign)))
    assert await world.state(campaign.request(step=1)) == "scheduled"


async def test_a_mail_is_found_by_the_id_that_its_provider_gave_it(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign(3)
    claims = [
        await sent(world, campaign, 0, f"200 {RESEND_ID}"),
        await sent(world, campaign, 1, f"250 Ok {SES_ID}"),
        await sent(world, campaign, 2, "250 2.0.0 Ok: queued as 4XyZ1234"),
    ]
    await feedback.record(report(event_id="e1", provider_id=RESEND_ID))
    await feedback.record(report(event_id="e2", provider_id=SES_ID))
    bounced = [(await world.row(claim))["bounced_at"] is not None for claim in claims]
    assert bounced == [True, True, False]
    # Whom the mail went to is suppressed, although the reports named nobody.
    wanted = {await email_of(world, campaign, index) for index in (0, 1)}
    assert set(await suppressed(world)) == wanted


@pytest.mark.parametrize("key", ["order-77", "an order / with ütf"])
async def test_a_self_contained_mail_is_found_by_its_message_id(
    world: World, feedback: PostgresFeedback, key: str
) -> None:
    claim = await world.claimed(inline(key, to=("a@example.com", "b@example.com")))
    name = "<0123456789abcdef.campaign-worker@example.org>"
    assert await world.ledger.mark(claim.id, claim.token, name)
    await world.settle(claim, MarkSent(name, "250 ok"))
    await feedback.record(report(message_id=name, addresses=("b@example.com",)))
    assert (await world.row(claim))["bounced_at"] == NOW
    assert await suppressed(world) == {"b@example.com": "hard_bounce"}


async def test_a_report_that_names_no_mail_is_taken_for_the_last_one_to_its_address(
    world: World, feedback: PostgresFeedback
) -> None:
    first, second = await world.campaign(), await world.campaign()
    email = await email_of(world, first)
    await world.execute("UPDATE $recipients SET email = $1", email)
    await sent(world, first)
    claim = await world.marked(second.request())  # the answer of the server is on its way
    await feedback.record(report(addresses=(email,), provider_id=RESEND_ID, occurred_at=None))
    assert (await world.row(claim))["bounced_at"] is not None
    assert (await world.counts(first)).get("bounced", 0) == 0
    assert await suppressed(world) == {email: "hard_bounce"}


async def test_a_report_that_comes_before_the_answer_to_the_send_stops_the_next_step_too(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign)
    claim = await world.claimed(campaign.request())
    name = message_id_of(campaign)
    assert await world.ledger.mark(claim.id, claim.token, name)
    await feedback.record(report(message_id=name))
    await world.settle(claim, MarkSent(name, "250 ok"))
    row = await world.row(claim)
    assert (row["state"], row["bounced_at"]) == ("sent", NOW)
    await world.claim(campaign.request(step=1))
    row = await world.row(campaign.request(step=1))
    assert (row["state"], row["reason"]) == ("skipped", "suppressed_hard_bounce")


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        ("250 ok", {"message_id": "<another-app@example.org>"}),
        ("250 ok", {"message_id": "<1.999.0.campaign-worker@example.org>"}),
        (f"200 {RESEND_ID}", {"provider_id": RESEND_ID.replace("5", "6")}),
        ("250 ok", {"occurred_at": NOW - timedelta(hours=1)}),
    ],
    ids=["another Message-ID", "a row that is not there", "another provider id", "before it"],
)
async def test_a_bounce_of_somebody_elses_mail_suppresses_and_marks_nothing(
    world: World, feedback: PostgresFeedback, reply: str, fields: dict[str, Any]
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign, 0, reply)
    email = await email_of(world, campaign)
    assert await feedback.record(report(addresses=(email,), **fields)) is Recorded.APPLIED
    assert (await world.row(claim))["bounced_at"] is None
    assert await suppressed(world) == {email: "hard_bounce"}
    (event,) = await events(world)
    assert event["message_id"] is None


async def test_a_bounce_of_a_mail_of_long_ago_is_not_the_last_one_s(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    await world.execute("UPDATE $messages SET marked_at = $1", NOW - timedelta(days=31))
    await feedback.record(report(addresses=(await email_of(world, campaign),)))
    assert (await world.row(claim))["bounced_at"] is None


async def test_another_installations_message_id_with_our_numbers_is_not_ours(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    name = message_id_of(campaign).replace("example.org", "staging.example.org")
    await feedback.record(report(message_id=name))
    assert (await world.row(claim))["bounced_at"] is None


async def test_a_complaint_stands_above_a_bounce_and_a_bounce_not_above_a_complaint(
    world: World, feedback: PostgresFeedback
) -> None:
    await feedback.record(report(HardBounce, "e1", addresses=("x@example.com",)))
    await feedback.record(report(Complaint, "e2", addresses=("x@example.com",)))
    await feedback.record(report(HardBounce, "e3", addresses=("x@example.com",)))
    assert await suppressed(world) == {"x@example.com": "complaint"}


async def test_what_a_person_decided_is_not_overwritten(
    world: World, feedback: PostgresFeedback
) -> None:
    await world.execute("INSERT INTO $suppressions (address, reason) VALUES ('x@e.com', 'manual')")
    await feedback.record(report(Complaint, addresses=("x@e.com",)))
    assert await suppressed(world) == {"x@e.com": "manual"}


async def test_a_clock_that_goes_fast_bounces_nothing_in_the_future(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign()
    claim = await sent(world, campaign)
    later = datetime(2150, 1, 1, tzinfo=UTC)
    await feedback.record(report(message_id=message_id_of(campaign), occurred_at=later))
    bounced_at = (await world.row(claim))["bounced_at"]
    assert bounced_at is not None
    assert bounced_at < later


async def test_many_reports_at_once_are_each_applied(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign(20)
    for index in range(20):
        await sent(world, campaign, index)
    told = [
        report(kind, f"{kind.__name__}{index}", message_id=message_id_of(campaign, index))
        for index in range(20)
        for kind in (HardBounce, SoftBounce, Complaint)
    ]
    stores = [feedback, store_over(world)]
    said = await asyncio.gather(
        *(stores[number % 2].record(each) for number, each in enumerate(told))
    )
    assert set(said) == {Recorded.APPLIED}
    assert await world.counts(campaign) == {"sent": 20, "bounced": 20, "complained": 20}
    assert set((await suppressed(world)).values()) == {"complaint"}


async def test_reports_and_settles_of_the_same_rows_do_not_stop_each_other(
    world: World, feedback: PostgresFeedback
) -> None:
    campaign = await world.campaign(20)
    await world.follow_up(campaign, delay_seconds=3600)
    claims = [await world.claimed(campaign.request(index)) for index in range(20)]
    for index, claim in enumerate(claims):
        await world.ledger.mark(claim.id, claim.token, message_id_of(campaign, index))

    async def one(index: int) -> None:
        name = message_id_of(campaign, index)
        await asyncio.gather(
            world.settle(claims[index], MarkSent(name, "250 ok")),
            feedback.record(report(event_id=f"e{index}", message_id=name)),
        )

    await asyncio.gather(*(one(index) for index in range(20)))
    counts = await world.counts(campaign)
    assert (counts["sent"], counts["bounced"]) == (20, 20)


async def test_the_lookups_use_their_indexes(world: World, feedback: PostgresFeedback) -> None:
    campaign = await world.campaign()
    await sent(world, campaign)
    statement = world.database.sql["find_feedback_messages"]
    arguments = [[0], [1], [1], [0], ["<x@y>"], [RESEND_ID], ["x@example.com"], [NOW]]
    async with world.database.transaction() as connection:
        # Of a table with a few rows a plan says nothing: as if it were large.
        await connection.execute("SET LOCAL enable_seqscan = off")
        rows = await connection.fetch(f"EXPLAIN {statement}", *arguments)
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan, plan
    for index in ("messages_provider_id", "messages_message_id", "recipients_address"):
        assert index in plan, plan


async def test_while_postgres_is_away_nobody_is_told_that_it_was_recorded(
    own_postgres: Any,
) -> None:
    server = await own_postgres()
    url = await server.create_database("away")
    from campaign_worker.storage.migrate import migrate  # noqa: PLC0415

    await migrate(url)
    async with world_of(url) as world:
        store = store_over(world)
        await server.stop("immediate")
        with pytest.raises(DatabaseAway):
            await store.record(report(addresses=("x@example.com",)))
