"""What docs/operating.md does to the rows of a person leaves nothing but the suppression."""

from __future__ import annotations

import re
from pathlib import Path

from campaign_worker.delivery.settlements import MarkSent
from tests.integration.storage.kit import World, inline

PAGE = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
WHO = "ann@example.org"


async def test_a_person_is_erased_from_every_table_but_suppressions(world: World) -> None:
    campaign = await world.campaign(2)
    await world.execute(
        "UPDATE $recipients SET email = $1, name = 'Ann', data = $2 WHERE id = $3",
        *("Ann@Example.org", '{"mail": "ann@example.org"}', campaign.recipients[0]),
    )
    for request in (campaign.request(0), inline(to=(f"Ann <{WHO}>",), subject=f"Hello {WHO}")):
        claim = await world.marked(request)
        await world.settle(claim, MarkSent("<1@example.com>", f"250 {WHO} ok"))
    await world.execute(
        "INSERT INTO $feedback_events (provider, event_id, address, kind, detail, occurred_at)"
        " VALUES ('ses', 'e', $1, 'hard_bounce', 'no ' || $1, now())",
        WHO,
    )
    # As of an app that has no table of recipients: their ids are addresses.
    await world.execute(
        "INSERT INTO $contract_recipients (campaign_id, key, recipient_id) VALUES ($1, $2, $3)",
        *(campaign.id, "Ann@example.org", campaign.recipients[0]),
    )
    before = await world.counts(campaign)
    assert len(await mentions(world)) == 4

    (script,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    await world.raw.execute(script.replace(":'who'", f"'{WHO}'"))

    assert await mentions(world) == {"suppressions"}
    assert await world.counts(campaign) == before | {"unsubscribed": 1}
    others = "SELECT count(*) FROM $recipients WHERE email LIKE 'r%@example.com'"
    assert await world.value(others) == 1


async def mentions(world: World) -> set[str]:
    """Return the tables with a row that names the address, or the person's name."""
    tables = await world.rows(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = 'campaign_worker' AND table_type = 'BASE TABLE'"
    )
    found = set()
    for name in (row["table_name"] for row in tables):
        query = f"SELECT count(*) FROM campaign_worker.{name} t WHERE t::text ~* 'ann@|\\mAnn\\M'"
        if await world.raw.fetchval(query):
            found.add(name)
    return found
