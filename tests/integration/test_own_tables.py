"""What docs/own-tables.md says can be done as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

from campaign_worker.delivery.payload import KNOWN_JOBS, parse
from campaign_worker.delivery.requests import CampaignRequest

PAGE = (Path(__file__).parents[2] / "docs" / "own-tables.md").read_text()


def block(language: str) -> str:
    """Return the page's one block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


async def test_the_campaign_of_the_page_can_be_written(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        campaign = await connection.fetchval(block("sql"))
        steps = await connection.fetch(
            "SELECT step, delay_seconds, condition FROM campaign_worker.follow_ups"
            " WHERE campaign_id = $1",
            campaign,
        )
        counts = await connection.fetchval(
            "SELECT count(*) FROM campaign_worker.campaign_counts WHERE campaign_id = $1", campaign
        )
    finally:
        await connection.close()
    assert [tuple(row) for row in steps] == [(1, 259_200, "not_opened")]
    assert counts == 1


def test_the_job_of_the_page_is_understood() -> None:
    found = re.search(r'add\("([\w-]+)", \{ campaignId: (\d+), recipientId: (\d+) \}', block("js"))
    assert found is not None
    name, campaign, recipient = found.groups()
    data = {"campaignId": int(campaign), "recipientId": int(recipient)}
    asked = parse(name, data, queue="campaign", job_id="1", timestamp_ms=0)
    assert asked == CampaignRequest(7, 1001)


def test_each_job_name_is_on_the_page() -> None:
    named = set(re.findall(r"^\| `([\w-]+)` \| `?", PAGE, re.MULTILINE))
    assert named == set(KNOWN_JOBS)
