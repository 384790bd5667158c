"""Statements that our pages tell operators to type do what is said of them."""

from __future__ import annotations

import re
from pathlib import Path

from campaign_worker.delivery.claims import Claimed, Final, MessageState
from campaign_worker.delivery.settlements import FailReason, MarkFailed
from tests.integration.storage.kit import World

PAGE = Path(__file__).parents[3] / "docs" / "smtp-classification.md"


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
