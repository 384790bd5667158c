"""A primary that becomes a replica and keeps its connections, while its name goes to another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from campaign_worker.errors import RedisAway
from campaign_worker.queue import AbortSignal, ConnectionSpec, Job, Producer, Worker
from tests.fixtures.failover import SETTINGS, Pair
from tests.integration.queue.cluster import MakeRedis
from tests.integration.queue.conftest import QUEUE, Events, Inspector
from tests.integration.queue.test_servers import PROGRAMS
from tests.support import TcpProxy, eventually

LOCK_MS = 1000


@pytest.fixture(params=list(PROGRAMS.values()), ids=list(PROGRAMS))
async def pair(request: pytest.FixtureRequest, own_redis: MakeRedis) -> AsyncIterator[Pair]:
    options = {"settings": SETTINGS, "program": request.param}
    # They end in the other order.
    new = await own_redis(**options)
    old = await own_redis(**options)
    async with TcpProxy(old.url) as name:
        yield Pair(old, new, name)


@pytest.fixture
async def queue(pair: Pair) -> AsyncIterator[Inspector]:
    """Return the queue as the new primary has it."""
    client = redis.asyncio.Redis.from_url(pair.new.url, decode_responses=True)
    yield Inspector(client, "bull")
    await client.aclose()


async def test_a_worker_keeps_its_locks_and_wakes_at_once_where_its_queue_has_gone(
    pair: Pair, queue: Inspector
) -> None:
    signals: list[AbortSignal] = []
    picked: dict[str, float] = {}
    go = asyncio.Event()

    async def process(job: Job, _token: str, signal: AbortSignal) -> str:
        picked[job.id] = time.monotonic()
        signals.append(signal)
        if job.id == "long":
            await go.wait()
        return "done"

    worker = Worker(QUEUE, process, {"connection": pair.name.url, "lockDuration": LOCK_MS})
    renewed = Events(worker, "locksRenewed")
    client = redis.asyncio.Redis.from_url(pair.old.url)
    try:
        await Producer(client, QUEUE).add("mail", {}, job_id="long")
        await eventually(lambda: renewed.seen)
        await pair.fail_over()
        later = time.monotonic() + 2 * LOCK_MS / 1000
        await eventually(lambda: time.monotonic() > later)
        assert signals[0].reason is None
        assert await queue.lock("long") is not None
        go.set()
        await eventually(lambda: queue.has(completed=1), 10)
        assert (await queue.job("long"))["ats"] == "1"

        await eventually(queue.blocked, says="it waits at the new primary")
        added = time.monotonic()
        await queue.producer.add("mail", {}, job_id="next")
        await eventually(lambda: "next" in picked)
        assert picked["next"] - added < 1
    finally:
        go.set()
        await worker.close(force=True)
        await client.aclose()


async def test_what_refuses_writes_because_it_was_demoted_is_left_for_the_new_primary(
    pair: Pair, queue: Inspector
) -> None:
    client = ConnectionSpec.of(pair.name.url).client(socket_timeout=5)
    producer = Producer(client, QUEUE)
    try:
        await producer.add("mail", {}, job_id="before")
        await pair.fail_over()
        with pytest.raises(RedisAway):
            await producer.add("mail", {}, job_id="after")
        await producer.add("mail", {}, job_id="after")
        assert await queue.counts() == {"waiting": 2}
    finally:
        await client.aclose()
