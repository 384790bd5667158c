"""What an operator says of mails in doubt becomes their rows' state, whole, and only theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from campaign_worker.delivery.settlements import MarkInDoubt, MarkSent, Settlement, Superseded
from campaign_worker.storage.doubts import Doubts, Selection, Verdict
from tests.integration.storage.kit import MESSAGE_ID

if TYPE_CHECKING:
    from campaign_worker.delivery.claims import Claimed
    from tests.integration.storage.kit import Seeded, World


async def doubtful(world: World, campaign: Seeded, index: int = 0) -> Claimed:
    """Leave one mail of a campaign in doubt."""
    claim = await world.marked(campaign.request(index))
    ending = MarkInDoubt(MESSAGE_ID, "no answer")
    await world.ledger.settle(Settlement(claim.id, claim.token, ending))
    return claim


async def test_the_list_says_what_an_operator_looks_for_and_no_address(world: World) -> None:
    campaign, other = await world.campaign(2), await world.campaign()
    claims = [await doubtful(world, campaign, index) for index in range(2)]
    await doubtful(world, other)
    rows = await Doubts(world.database).list(Selection(campaign_id=campaign.id), 10)
    assert [row["id"] for row in rows] == [claim.id for claim in claims]
    assert rows[0]["message_id"] == MESSAGE_ID
    assert "@example.com" not in str(rows)
    assert len(await Doubts(world.database).list(Selection(), 2)) == 2


async def test_a_mail_to_be_sent_again_is_due_at_once_and_keeps_its_attempts(world: World) -> None:
    campaign = await world.campaign()
    claim = await doubtful(world, campaign)
    (due,) = await Doubts(world.database).decide(Selection((claim.id,)), Verdict.RESEND)
    assert (due.id, due.job_id) == (claim.id, "job-1")
    row = await world.row(claim)
    assert (row["state"], row["attempts"], row["marked_at"]) == ("scheduled", 0, None)
    again = await world.claimed(campaign.request())
    assert again.content == claim.content


async def test_a_mail_that_arrived_counts_is_billed_once_and_followed_up(world: World) -> None:
    campaign = await world.campaign()
    await world.follow_up(campaign, delay_seconds=60)
    claim = await doubtful(world, campaign)
    await Doubts(world.database).decide(Selection(campaign_id=campaign.id), Verdict.MARK_SENT)
    row = await world.row(claim)
    assert (row["state"], row["sent_at"]) == ("sent", row["marked_at"])
    assert await world.value("SELECT count(*) FROM $usage_events") == 1
    assert (await world.row(campaign.request(step=1)))["state"] == "scheduled"
    assert await world.campaigns.untrue_counts() == []


async def test_a_mail_that_did_not_arrive_is_failed_for_good(world: World) -> None:
    claim = await doubtful(world, await world.campaign())
    await Doubts(world.database).decide(Selection((claim.id,)), Verdict.MARK_FAILED)
    row = await world.row(claim)
    assert (row["state"], row["reason"]) == ("failed", "operator")
    assert await world.campaigns.untrue_counts() == []


@pytest.mark.parametrize("verdict", Verdict)
async def test_what_is_not_in_doubt_is_left_alone(world: World, verdict: Verdict) -> None:
    campaign = await world.campaign()
    claim = await world.marked(campaign.request())
    await world.ledger.settle(Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, "2.0.0 ok")))
    before = await world.row(claim)
    assert await Doubts(world.database).decide(Selection(), verdict) == []
    assert await world.row(claim) == before


async def test_after_the_operators_word_a_late_answer_changes_nothing(world: World) -> None:
    claim = await doubtful(world, await world.campaign())
    await Doubts(world.database).decide(Selection((claim.id,)), Verdict.MARK_FAILED)
    late = Settlement(claim.id, claim.token, MarkSent(MESSAGE_ID, "2.0.0 ok"))
    assert isinstance(await world.ledger.settle(late), Superseded)
