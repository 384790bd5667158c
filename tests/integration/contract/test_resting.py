"""Jobs of an app's paused campaign are put off many at a time, and called back by our number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.asyncio

from campaign_worker.contract.forms import AppForms
from campaign_worker.jobs import MailQueue
from campaign_worker.queue.producer import Producer

if TYPE_CHECKING:
    from tests.integration.contract.kit import Place


def queue_of(place: Place, client: redis.asyncio.Redis, name: str, prefix: str) -> MailQueue:
    tables = place.tables
    forms = AppForms(place.source.contract, tables.mails_of, tables.campaign_of)
    return MailQueue(client, name, prefix, forms)


async def test_a_campaign_s_jobs_are_known_by_the_app_s_id(
    prisma_place: Place, redis_url: str, prefix: str
) -> None:
    place = prisma_place
    rests, goes = await place.app.campaign(40), await place.app.campaign(5)
    campaign_id = (await place.request(rests)).campaign_id
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    try:
        producer = Producer(client, "campaign", prefix)
        for campaign in (rests, goes):
            for index in range(len(campaign.recipients)):
                await producer.add("send-email", place.app.data(campaign, index))
        queue = queue_of(place, client, "campaign", prefix)
        _, moved = await queue.put_off(campaign_id, delay_seconds=60, spread_seconds=10)
        assert moved == 40
        assert (await queue.counts())["waiting"] == 5
        assert await queue.call_back(campaign_id, 100) == 40
        assert (await queue.counts())["waiting"] == 45
        assert await queue.put_off(999, delay_seconds=60, spread_seconds=10) == (0, 0)
    finally:
        await client.aclose()


async def test_ids_that_lie_deeper_are_left_to_their_turn(
    drizzle_place: Place, redis_url: str, prefix: str
) -> None:
    place = drizzle_place
    campaign = await place.app.campaign(1)
    campaign_id = (await place.request(campaign)).campaign_id
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    try:
        await Producer(client, "mails", prefix).add("deliver", place.app.data(campaign, 0))
        queue = queue_of(place, client, "mails", prefix)
        assert (await queue.put_off(campaign_id, delay_seconds=60, spread_seconds=1))[1] == 0
        assert (await queue.counts())["waiting"] == 1
    finally:
        await client.aclose()
