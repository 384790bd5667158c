"""The claim: which row becomes ours, and why another does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from campaign_worker.delivery.claims import (
    Busy,
    CampaignContent,
    Claimed,
    Final,
    InlineContent,
    MessageState,
    Missing,
    NotYet,
)
from campaign_worker.delivery.model import Attachment, Template
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.delivery.settlements import (
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    NextStep,
    Settled,
)
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.claim import Claimer
from campaign_worker.storage.claim_items import ClaimItem
from campaign_worker.storage.ledger import PostgresLedger
from campaign_worker.storage.templates import Loaded
from metrics import BatchFlushed, Event
from shutdown import Deadline
from tests.integration.storage.kit import JOB, LEASE_SECONDS, Seeded, World, accepted, inline
from tests.support import eventually


async def suppress(world: World, address: str, reason: str = "complaint") -> None:
    await world.execute("INSERT INTO $suppressions VALUES ($1, $2)", address, reason)


async def address(world: World, campaign: Seeded, email: str, index: int = 0) -> None:
    await world.execute(
        "UPDATE $recipients SET email = $2 WHERE id = $1", campaign.recipients[index], email
    )


async def test_a_job_that_comes_before_its_row_makes_it(world: World) -> None:
    campaign = await world.campaign()
    claim = await world.claimed(campaign.request(), "token-1")
    row = await world.row(claim)
    assert (row["state"], row["token"], row["queue"], row["job_id"]) == (
        "sending", "token-1", "campaign", "job-1",
    )  # fmt: skip
    left = (row["lease_until"] - row["claimed_at"]).total_seconds()
    assert left == pytest.approx(LEASE_SECONDS, abs=0.1)
    assert isinstance(claim.content, CampaignContent)
    assert claim.message_key == f"{campaign.id}.{campaign.recipients[0]}.0"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"campaign_id": 999_999}, "campaignId"),
        ({"campaign_id": 2**63 - 1}, "campaignId"),
        ({"recipient_id": 999_999}, "recipientId"),
        ({"step": 1}, "step"),
    ],
)
async def test_what_a_job_names_in_vain_is_named(
    world: World, change: dict[str, int], field: str
) -> None:
    request = (await world.campaign()).request()
    given = {"campaign_id": request.campaign_id, "recipient_id": request.recipient_id} | change
    claim = await world.claim(CampaignRequest(**given))
    assert isinstance(claim, Missing)
    assert claim.field == field
    assert await world.value("SELECT count(*) FROM $messages") == 0


async def test_a_recipient_of_another_campaign_is_missing(world: World) -> None:
    one, other = await world.campaign(), await world.campaign()
    claim = await world.claim(CampaignRequest(one.id, other.recipients[0]))
    assert isinstance(claim, Missing)
    assert claim.field == "recipientId"


async def test_an_unknown_campaign_of_a_self_contained_mail_is_missing(world: World) -> None:
    claim = await world.claim(inline(campaign_id=999_999))
    assert isinstance(claim, Missing)
    assert claim.field == "campaignId"


async def test_of_two_jobs_for_one_row_in_a_batch_the_second_is_busy(world: World) -> None:
    campaign = await world.campaign()
    claimer = Claimer(world.database, lease_seconds=LEASE_SECONDS, normalize=normalize)
    for request in (campaign.request(), inline("twice")):
        first, second = await claimer.execute(
            [ClaimItem(request, "a", JOB), ClaimItem(request, "b", JOB)]
        )
        assert isinstance(first, Claimed)
        assert isinstance(second, Busy)
        assert second.seconds > 0


async def test_a_row_whose_lease_is_live_is_busy_until_it_ends(world: World) -> None:
    request = (await world.campaign()).request()
    await world.claimed(request)
    claim = await world.claim(request)
    assert isinstance(claim, Busy)
    assert claim.seconds == pytest.approx(LEASE_SECONDS, abs=1)


async def test_a_row_whose_lease_is_over_is_not_asked_for_without_a_pause(world: World) -> None:
    request = (await world.campaign()).request()
    held = await world.claimed(request)
    await world.execute("UPDATE $messages SET lease_until = now() - interval '1 min'")
    claim = await world.claim(request)
    assert claim == Busy(1.0)
    assert (await world.row(held))["token"] == held.token


ENDINGS: list[tuple[Any, MessageState, str | None]] = [
    (MarkFailed(FailReason.REJECTED, "554", attempt_spent=True), MessageState.FAILED, "rejected"),
    (MarkInDoubt("<a@b>", "lost"), MessageState.IN_DOUBT, "no_answer_to_final_dot"),
]


@pytest.mark.parametrize(("ending", "state", "reason"), ENDINGS)
async def test_a_final_row_ends_a_job_as_it_says(
    world: World, ending: Any, state: MessageState, reason: str | None
) -> None:
    request = (await world.campaign()).request()
    await world.settle(await world.marked(request), ending)
    claim = await world.claim(request)
    assert isinstance(claim, Final)
    assert (claim.state, claim.reason) == (state, reason)


async def test_a_sent_row_says_its_message_id(world: World) -> None:
    request = (await world.campaign()).request()
    sent = await world.sent(request)
    expected = Final(MessageState.SENT, None, f"<{sent.message_key}@example.com>")
    assert await world.claim(request) == expected
    assert await world.claim(request) == expected


async def test_a_row_that_is_not_due_waits(world: World) -> None:
    request = (await world.campaign()).request()
    await world.settle(await world.claimed(request), MarkRetry("451", 90))
    claim = await world.claim(request)
    assert isinstance(claim, NotYet)
    assert claim.reason == "not_due"
    assert claim.seconds == pytest.approx(90, abs=1)


@pytest.mark.parametrize("status", ["draft", "paused"])
async def test_a_campaign_at_rest_waits(world: World, status: str) -> None:
    request = (await world.campaign(status=status)).request()
    claim = await world.claim(request)
    assert isinstance(claim, NotYet)
    assert claim.reason == f"campaign_{status}"
    assert await world.state(request) == "scheduled"


async def test_a_completed_campaign_sends_what_it_still_has(world: World) -> None:
    await world.claimed((await world.campaign(status="completed")).request())


async def test_a_cancelled_campaign_is_skipped_once_and_for_all(world: World) -> None:
    campaign = await world.campaign(status="cancelled")
    skipped = Final(MessageState.SKIPPED, "campaign_cancelled", None)
    assert await world.claim(campaign.request()) == skipped
    assert await world.claim(campaign.request()) == skipped
    assert await world.counts(campaign) == {"skipped": 1}


async def test_who_has_unsubscribed_gets_nothing(world: World) -> None:
    campaign = await world.campaign()
    await world.execute("UPDATE $recipients SET unsubscribed_at = now()")
    claim = await world.claim(campaign.request())
    assert claim == Final(MessageState.SKIPPED, "unsubscribed", None)


@pytest.mark.parametrize(
    ("email", "kept"),
    [
        ("one@example.com", "one@example.com"),
        ("One@EXAMPLE.com", "one@example.com"),
        ("one@BÜCHER.example", "one@xn--bcher-kva.example"),
        ("ÄÖ@example.com", "äö@example.com"),
        # No address at all: it is compared as it stands, and its mail fails by itself.
        ("No Address@", "no address@"),
    ],
)
async def test_a_suppressed_address_gets_nothing_however_it_is_spelled(
    world: World, email: str, kept: str
) -> None:
    campaign = await world.campaign(2)
    await address(world, campaign, email)
    await suppress(world, kept)
    one, other = await asyncio.gather(
        world.claim(campaign.request(0)), world.claim(campaign.request(1))
    )
    assert one == Final(MessageState.SKIPPED, "suppressed_complaint", None)
    assert isinstance(other, Claimed)


async def test_a_mail_to_several_goes_to_those_who_may_have_it(world: World) -> None:
    await suppress(world, "b@example.com")
    request = inline("several", to=("a@example.com", "B <B@Example.com>"), cc=("c@example.com",))
    claim = await world.claimed(request)
    assert isinstance(claim.content, InlineContent)
    assert claim.content.suppressed == {"b@example.com"}
    assert claim.content.mail == request.mail


async def test_a_mail_to_several_of_whom_nobody_may_have_it_is_skipped(world: World) -> None:
    await suppress(world, "a@example.com", "hard_bounce")
    await suppress(world, "b@example.com", "hard_bounce")
    claim = await world.claim(inline("none", to=("a@example.com",), bcc=("b@example.com",)))
    assert claim == Final(MessageState.SKIPPED, "suppressed_hard_bounce", None)


async def test_the_first_content_under_a_key_is_the_mail(world: World) -> None:
    first = await world.claimed(inline("key", subject="first"))
    await world.settle(first, MarkReleased("interrupted"))
    second = await world.claimed(inline("key", subject="second"))
    assert isinstance(second.content, InlineContent)
    assert second.content.mail.subject == "first"
    assert (second.id, second.created_at_epoch) == (first.id, first.created_at_epoch)


FOLLOW_UPS = [
    ("always", (), "claimed"),
    ("opened", (), "condition_opened_not_met"),
    ("opened", ("open",), "claimed"),
    ("opened", ("click",), "claimed"),
    ("not_opened", (), "claimed"),
    ("not_opened", ("open",), "condition_not_opened_not_met"),
    ("not_opened", ("click",), "condition_not_opened_not_met"),
    ("clicked", ("open",), "condition_clicked_not_met"),
    ("clicked", ("click",), "claimed"),
    ("not_clicked", ("open",), "claimed"),
    ("not_clicked", ("click",), "condition_not_clicked_not_met"),
]


@pytest.mark.parametrize(("condition", "seen", "expected"), FOLLOW_UPS)
async def test_a_follow_up_goes_where_its_condition_is_met(
    world: World, condition: str, seen: tuple[str, ...], expected: str
) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, condition=condition)
    first = await world.sent(campaign.request())
    for kind in seen:
        await world.execute(
            "INSERT INTO $tracking_events (id, message_id, kind, class, machine)"
            " VALUES (gen_random_uuid(), $1, $2, 'human', false)",
            *(first.id, kind),
        )
    claim = await world.claim(campaign.request(step=1))
    found = "claimed" if isinstance(claim, Claimed) else getattr(claim, "reason", claim)
    assert found == expected
    if isinstance(claim, Claimed):
        assert isinstance(claim.content, CampaignContent)
        assert claim.content.template.subject == "step 1"
        assert claim.content.previous_message_id == f"<{first.message_key}@example.com>"


async def test_a_follow_up_stops_on_a_reply_unless_told_otherwise(world: World) -> None:
    campaign = await world.campaign(2)
    await world.follow_up(campaign)
    for index in (0, 1):
        await world.sent(campaign.request(index))
    await world.execute("UPDATE $recipients SET replied_at = now()")
    stopped = await world.claim(campaign.request(0, step=1))
    assert stopped == Final(MessageState.SKIPPED, "replied", None)
    await world.execute("UPDATE $follow_ups SET stop_on_reply = false")
    await world.claimed(campaign.request(1, step=1))


async def test_a_follow_up_waits_for_a_first_mail_that_is_still_open(world: World) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign)
    await world.claimed(campaign.request())
    claim = await world.claim(campaign.request(step=1))
    assert isinstance(claim, NotYet)
    assert claim.reason == "previous_step_open"


@pytest.mark.parametrize("step", [1, 2])
async def test_a_follow_up_whose_job_comes_before_the_first_mails_row_waits(
    world: World, step: int
) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, 1)
    await world.follow_up(campaign, 2)
    claim = await world.claim(campaign.request(step=step))
    assert isinstance(claim, NotYet), claim
    await world.claimed(campaign.request())
    claim = await world.claim(campaign.request(step=step))
    assert isinstance(claim, NotYet), claim


async def test_a_follow_up_of_a_mail_that_was_not_sent_is_skipped(world: World) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, 1)
    await world.follow_up(campaign, 2)
    first = await world.marked(campaign.request())
    await world.settle(first, MarkFailed(FailReason.HARD_BOUNCE, "550", attempt_spent=True))
    for step in (2, 1):
        claim = await world.claim(campaign.request(step=step))
        assert claim == Final(MessageState.SKIPPED, "previous_step_not_sent", None)


async def test_a_follow_up_that_was_taken_out_of_its_campaign_is_skipped_alone(
    world: World,
) -> None:
    campaign, other = await world.campaign(), await world.campaign()
    await world.follow_up(campaign)
    await world.sent(campaign.request())
    await world.execute("DELETE FROM $follow_ups")
    removed, fine = await asyncio.gather(
        world.claim(campaign.request(step=1)), world.claim(other.request())
    )
    assert removed == Final(MessageState.SKIPPED, "step_removed", None)
    assert isinstance(fine, Claimed)


async def test_a_follow_up_that_was_tried_is_skipped_when_it_is_taken_out_of_its_campaign(
    world: World,
) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, condition="not_opened")
    await world.sent(campaign.request())
    tried = await world.claimed(campaign.request(step=1))
    await world.settle(tried, MarkReleased("throttled"))
    await world.execute("DELETE FROM $follow_ups")
    removed = await world.claim(campaign.request(step=1))
    assert removed == Final(MessageState.SKIPPED, "step_removed", None)


async def test_the_step_after_one_that_was_taken_out_follows_the_one_before_it(
    world: World,
) -> None:
    campaign = await world.campaign()
    for step in (1, 2, 3):
        await world.follow_up(campaign, step, delay_seconds=60 * step)
    await world.sent(campaign.request())
    await world.execute("DELETE FROM $follow_ups WHERE step = 2")
    await world.execute("UPDATE $messages SET due_at = now() WHERE step = 1")
    first = await world.marked(campaign.request(step=1))
    answer = await world.settle(first, accepted(first))
    assert isinstance(answer, Settled)
    assert isinstance(answer.next_step, NextStep)
    assert answer.next_step.step == 3
    assert 170 < answer.next_step.due_in_seconds <= 180
    await world.execute("UPDATE $messages SET due_at = now() WHERE step = 3")
    last = await world.claimed(campaign.request(step=3))
    assert isinstance(last.content, CampaignContent)
    assert last.content.previous_message_id == f"<{first.message_key}@example.com>"


@pytest.mark.parametrize("due_at", ["infinity", "9999-12-31", "294276-12-31"])
async def test_a_row_that_is_due_in_ages_waits_and_keeps_no_other_back(
    world: World, due_at: str
) -> None:
    campaign = await world.campaign(2)
    await world.campaigns.fan_out(campaign.id, "campaign")
    await world.execute(
        f"UPDATE $messages SET due_at = '{due_at}' WHERE recipient_id = $1", campaign.recipients[0]
    )
    # As enqueue reads them.
    pages = [page async for page in world.campaigns.pending(campaign.id)]
    assert [row.recipient_id for page in pages for row in page] == list(campaign.recipients)
    waiting, fine = await asyncio.gather(*(world.claim(campaign.request(n)) for n in range(2)))
    assert isinstance(waiting, NotYet)
    assert waiting.reason == "not_due"
    assert 364 * 86_400 < waiting.seconds < 367 * 86_400
    assert isinstance(fine, Claimed)


async def test_the_template_is_pinned_at_the_first_claim(world: World) -> None:
    campaign = await world.campaign()
    before = await world.claimed(campaign.request())
    await world.settle(before, MarkReleased("interrupted"))
    edited = await world.template("Edited")
    await world.execute("UPDATE $campaigns SET template_id = $1", edited)
    after = await world.claimed(campaign.request())
    assert isinstance(before.content, CampaignContent)
    assert isinstance(after.content, CampaignContent)
    assert after.content.template == before.content.template
    assert after.content.template.subject == "Hello"


async def test_an_edited_template_serves_rows_that_were_never_claimed(world: World) -> None:
    campaign = await world.campaign(status="paused")
    assert isinstance(await world.claim(campaign.request()), NotYet)
    edited = await world.template("Edited")
    await world.execute("UPDATE $campaigns SET template_id = $1, status = 'running'", edited)
    claim = await world.claimed(campaign.request())
    assert isinstance(claim.content, CampaignContent)
    assert claim.content.template.subject == "Edited"


async def test_headers_that_are_no_text_reach_nobody_as_something_else(world: World) -> None:
    campaign = await world.campaign()
    headers = '{"X-Number": 5, "X-Text": "t", "X-Null": null}'
    await world.execute("UPDATE $campaigns SET headers = $1", headers)
    claim = await world.claimed(campaign.request())
    assert isinstance(claim.content, CampaignContent)
    assert claim.content.headers == {"X-Number": "5", "X-Text": "t", "X-Null": None}


async def test_more_templates_than_are_kept_still_serve(world: World) -> None:
    claimer = Claimer(world.database, lease_seconds=LEASE_SECONDS, normalize=normalize)
    old = {-n: Template(-n, "old", None, "t") for n in range(1, 1001)}
    claimer._templates.keep(Loaded(old, {}))
    campaigns = [await world.campaign() for _ in range(3)]
    items = [ClaimItem(one.request(), f"t{n}", JOB) for n, one in enumerate(campaigns)]
    assert all(isinstance(claim, Claimed) for claim in await claimer.execute(items))
    assert len(claimer._templates._templates) == 3


async def test_a_claim_whose_asker_is_gone_is_released(world: World) -> None:
    request = (await world.campaign()).request()
    async with world.raw.transaction():
        await world.execute("LOCK TABLE $messages IN EXCLUSIVE MODE")
        asking = asyncio.create_task(world.claim(request))
        await eventually(world.somebody_waits_for_a_lock)
        asking.cancel()
        await asyncio.wait([asking])
    assert asking.cancelled()
    await eventually(lambda: not world.ledger._orphans)
    row = await world.row(request)
    assert (row["state"], row["attempts"], row["deaths"]) == ("scheduled", 0, 0)
    assert row["claimed_at"] is not None, "the claim had been committed"
    await world.claimed(request)


async def test_large_mails_travel_a_few_at_a_time(world: World) -> None:
    sizes: list[int] = []

    class Listener:
        def on_event(self, event: Event) -> None:
            if isinstance(event, BatchFlushed) and event.statement == "claim":
                sizes.append(event.size)

    ledger = PostgresLedger(
        world.database, lease_seconds=LEASE_SECONDS, normalize=normalize, listener=Listener()
    )
    attached = (Attachment("f", bytes(3_000_000), "a/b"), Attachment("g", bytes(3_000_000), "a/b"))
    claims = await asyncio.gather(
        *(ledger.claim(inline(key, attachments=attached), key, JOB) for key in "abcde")
    )
    assert [type(claim) for claim in claims] == [Claimed] * 5
    assert sizes == [2, 2, 1]
    await ledger.close(Deadline.after(2))
