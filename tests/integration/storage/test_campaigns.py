"""Campaigns as operators open and enqueue them."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.storage.kit import World, inline


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("draft", "running"),
        ("completed", "running"),
        ("running", "running"),
        ("paused", "paused"),
        ("cancelled", "cancelled"),
    ],
)
async def test_opening_starts_what_has_not_begun_or_was_over(
    world: World, before: str, after: str
) -> None:
    campaign = await world.campaign(status=before)
    opened = await world.campaigns.open(campaign.id)
    assert opened is not None
    assert (opened.status, opened.name) == (after, "c")


async def test_a_campaign_that_does_not_exist_is_not_opened(world: World) -> None:
    assert await world.campaigns.open(999_999) is None
    assert await world.campaigns.transports([999_999]) == {}


async def test_fan_out_goes_to_the_end_although_others_make_rows_meanwhile(world: World) -> None:
    campaign = await world.campaign(2500)
    async with world.raw.transaction():
        # A worker makes the row of one early recipient, and has not committed yet.
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2)",
            campaign.id,
            campaign.recipients[5],
        )
        fanning = asyncio.create_task(world.campaigns.fan_out(campaign.id, "campaign"))
        while not await world.somebody_waits_for_a_lock():
            assert not fanning.done()
    assert await fanning == 2499
    assert await world.value("SELECT count(*) FROM $messages") == 2500
    assert await world.campaigns.fan_out(campaign.id, "campaign") == 0


async def test_pending_rows_are_those_of_recipients(world: World) -> None:
    campaign = await world.campaign(3)
    await world.campaigns.fan_out(campaign.id, "campaign")
    await world.execute(
        "INSERT INTO $messages (campaign_id, idempotency_key, inline) VALUES ($1, 'k', '{}')",
        campaign.id,
    )
    await world.sent(campaign.request(0))
    pages = [page async for page in world.campaigns.pending(campaign.id)]
    assert [row.recipient_id for page in pages for row in page] == list(campaign.recipients[1:])
    assert await world.campaigns.pending_count(campaign.id) == 2
    assert inline().key == "k"


async def test_the_overview_shows_counts_and_what_is_open(world: World) -> None:
    campaign = await world.campaign(3)
    await world.campaigns.fan_out(campaign.id, "campaign")
    await world.sent(campaign.request(0))
    await world.claimed(campaign.request(1))
    (row,) = await world.campaigns.overview(10)
    assert (row["recipients"], row["scheduled"], row["sending"], row["sent_count"]) == (3, 1, 1, 1)
