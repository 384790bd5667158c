"""Statements that our pages tell operators to type do what is said of them."""

from __future__ import annotations

import re
from pathlib import Path

from campaign_worker.delivery.claims import Claimed, Final, MessageState
from campaign_worker.delivery.settlements import FailReason, MarkFailed, MarkReleased
from campaign_worker.storage.doubts import Doubts, Selection, Verdict
from tests.integration.storage.kit import World, inline

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "smtp-classification.md"


async def test_bounces_that_were_withheld_can_be_suppressed_by_hand(world: World) -> None:
    (statement,) = re.findall(r"```sql\n(.+?)```", PAGE.read_text(), re.DOTALL)
    old, news = await world.campaign(2), await world.campaign(2)
    for campaign in (old, news):
        await world.execute(
            "UPDATE $recipients SET email = 'Gone@Example.COM' WHERE id = $1",
            campaign.recipients[0],
        )
    withheld = "suppression withheld: 550 5.1.1 no such user"
    gone = MarkFailed(FailReason.HARD_BOUNCE, withheld, attempt_spent=True)
    claim = await world.marked(old.request(0))
    await world.settle(claim, gone)
    assert await world.value("SELECT count(*) FROM $suppressions") == 0
    for _ in range(2):
        await world.raw.execute(statement.replace("= 7", f"= {old.id}"))
    rows = await world.rows("SELECT address, reason, message_id, detail FROM $suppressions")
    assert [tuple(row.values()) for row in rows] == [
        ("gone@example.com", "hard_bounce", claim.id, withheld)
    ]
    met = await world.claim(news.request(0))
    assert met == Final(MessageState.SKIPPED, "suppressed_hard_bounce", None)
    assert isinstance(await world.claim(news.request(1)), Claimed)


async def test_what_may_have_gone_out_since_a_backup_is_in_doubt_and_no_id_comes_again(
    world: World,
) -> None:
    (statement,) = re.findall(r"```sql\n(.+?)```", (DOCS / "restoring.md").read_text(), re.DOTALL)
    campaign, resting = await world.campaign(4), await world.campaign(1, status="paused")
    await world.follow_up(campaign, delay_seconds=3600)
    await world.sent(campaign.request(0))
    await world.claimed(campaign.request(1))
    await world.settle(await world.claimed(campaign.request(2)), MarkReleased("throttled", 60.0))
    await world.settle(await world.claimed(inline("whole")), MarkReleased("interrupted"))
    # The fourth recipient has no row yet. What was due until half a minute from now may be out.
    until = await world.value("SELECT (now() + interval '30 s')::text")
    await world.raw.execute(
        statement.replace(":'until'", f"'{until}'").replace(":'domain'", "'example.org'")
    )
    rows = await world.rows("SELECT recipient_id, step, state FROM $messages ORDER BY id")
    found = {(row["recipient_id"], row["step"]): row["state"] for row in rows}
    first, second, third, fourth = campaign.recipients
    assert found == {
        (first, 0): "sent",
        (first, 1): "scheduled",
        (second, 0): "in_doubt",
        (third, 0): "scheduled",
        (None, 0): "in_doubt",
        (fourth, 0): "in_doubt",
    }
    doubts = Doubts(world.database)
    assert len(await doubts.decide(Selection(campaign_id=campaign.id), Verdict.MARK_SENT)) == 2
    row = await world.row(campaign.request(1))
    assert row["message_id"] == f"<{campaign.id}.{second}.0.campaign-worker@example.org>"
    assert await world.state(campaign.request(1, step=1)) == "scheduled"
    assert await world.campaigns.untrue_counts() == []
    later = await world.campaign()
    assert later.id > resting.id + 10_000_000
    assert later.recipients[0] > resting.recipients[0] + 10_000_000
