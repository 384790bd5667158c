"""A demo that cannot go on says so: what is stuck, and which server is gone."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import aiohttp
import pytest

from campaign_worker.demo.campaign import create_campaign
from campaign_worker.demo.evidence import redis_client
from campaign_worker.demo.options import Pace
from campaign_worker.demo.progress import Lines
from campaign_worker.demo.stage import connected, enqueue, settings_of, step
from campaign_worker.demo.watch import Snapshot, Watch
from campaign_worker.embedded.stack import EmbeddedStack
from campaign_worker.errors import DemoFailed
from campaign_worker.storage.migrate import migrate

PACE = Pace(concurrency=1, latency_ms=1)


def never(_snapshot: Snapshot) -> bool:
    return False


@pytest.fixture
async def stack() -> AsyncIterator[EmbeddedStack]:
    async with EmbeddedStack(latency_ms=1) as running:
        await migrate(running.database_url)
        yield running


async def watched(stack: EmbeddedStack, *, stuck_seconds: float) -> None:
    display = Lines(io.StringIO())
    async with (
        connected(stack.database_url) as connection,
        aiohttp.ClientSession() as session,
        redis_client(stack.redis_url) as redis,
    ):
        campaign_id = await create_campaign(connection, 3)
        assert await enqueue(settings_of(stack, PACE), campaign_id, display) == 3
        watch = Watch(
            connection=connection,
            redis=redis,
            stack=stack,
            session=session,
            display=display,
            campaign_id=campaign_id,
            mails=6,
            stuck_seconds=stuck_seconds,
        )
        before = await watch.until(lambda now: now.open == 3, "looking")
        assert (before.accepted, before.sent, before.ended) == (0, 0, False)
        if stuck_seconds > 1:
            await stack.redis.kill()
        await watch.until(never, "first mails")


async def test_a_campaign_that_nobody_sends_is_stuck(stack: EmbeddedStack) -> None:
    with pytest.raises(DemoFailed) as caught:
        await watched(stack, stuck_seconds=0.2)
    assert str(caught.value) == (
        "first mails: no progress for 0.2 s: 0 of 6 mails accepted, 0 rows sent, 3 rows open"
    )


async def test_a_server_that_is_gone_ends_the_demo_at_once(stack: EmbeddedStack) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(DemoFailed) as caught:
            await watched(stack, stuck_seconds=60)
    assert str(caught.value) == "redis: ended by itself with exit code -9"


async def test_a_database_that_is_gone_is_named_with_the_step(stack: EmbeddedStack) -> None:
    await stack.postgres.stop()
    with pytest.raises(DemoFailed, match=r"^create the campaign: "), step("create the campaign"):
        async with connected(stack.database_url) as connection:
            await create_campaign(connection, 3)
