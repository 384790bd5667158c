"""The Redis that all share, what is in it before a run, and what it says of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from bench.queue.contenders import WorkerProcess
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.queue import JobSpec, Producer
from campaign_worker.queue.keys import QueueKeys

QUEUE = "bench"
POLL_SECONDS = 0.05
#: The slowest pace that is waited for; a run that is slower has hung.
_LEAST_JOBS_PER_S = 50
_PATIENCE_SECONDS = 60.0

# The same keys as addStandardJob writes, for many plain jobs in one call.
_BULK = """
local base, first, last = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
for id = first, last do
  redis.call('HSET', base .. id, 'name', 'noop', 'data', '{"i":' .. id .. '}', 'opts',
    '{"attempts":0}', 'timestamp', ARGV[3], 'delay', 0, 'priority', 0)
  redis.call('LPUSH', base .. 'wait', id)
end
redis.call('ZADD', base .. 'marker', 0, '0')
"""
_BULK_STEP = 5_000


class RunStuck(Exception):
    """The jobs of a run were not completed in time."""


class Stand:
    """One Redis with an append-only file, one queue, one connection that watches."""

    def __init__(self, url: str, client: redis.asyncio.Redis) -> None:
        self.url = url
        self._client = client
        self._keys = QueueKeys(QUEUE, "bull")
        self._producer = Producer(client, QUEUE)

    async def clear(self) -> None:
        """Empty the database, and its file too, so that no rewrite falls into a run."""
        await self._client.flushdb()
        await self._client.bgrewriteaof()
        while True:
            state = await self._client.info("persistence")
            if not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def add(self, count: int) -> None:
        """Add jobs as the product's producer does."""
        await self._producer.add_many([JobSpec("noop", {"i": i}) for i in range(count)])

    async def add_in_bulk(self, count: int) -> None:
        """Add very many jobs, with a script of its own."""
        add = self._client.register_script(_BULK)
        for first in range(1, count + 1, _BULK_STEP):
            last = min(count, first + _BULK_STEP - 1)
            await add([self._keys.base], [first, last, 1_700_000_000_000])

    async def completed(self) -> int:
        """How many jobs are completed."""
        return int(await self._client.zcard(self._keys.of("completed")))

    async def until_completed(self, count: int, worker: WorkerProcess) -> None:
        """Return when that many jobs are completed; RunStuck, WorkerDied."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS + count / _LEAST_JOBS_PER_S):
                while await self.completed() < count:
                    worker.check()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise RunStuck(f"{await self.completed()} of {count} jobs completed") from None

    async def seconds_of_completions(self) -> float:
        """Seconds from the first completion to the last, as the jobs' finishedOn say."""
        done = self._keys.of("completed")
        first = await self._client.zrange(done, 0, 0, withscores=True)
        last = await self._client.zrange(done, -1, -1, withscores=True)
        return (_score(last) - _score(first)) / 1000

    async def cpu_seconds(self) -> float:
        """CPU time of the Redis process so far, its children not counted."""
        used = await self._client.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    async def commands(self) -> int:
        """How many commands Redis has processed so far."""
        return int((await self._client.info("stats"))["total_commands_processed"])

    async def version(self) -> str:
        """Redis' version."""
        return str((await self._client.info("server"))["redis_version"])


def _score(members: Any) -> float:
    [(_, score)] = members
    return float(score)


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    """Start a Redis as the demo has it; it is gone afterwards."""
    # Rewriting by size would fall into one run and not into another: clear() rewrites instead.
    async with RedisServer(settings={"auto-aof-rewrite-percentage": "0"}) as server:
        client = redis.asyncio.Redis.from_url(
            server.url, decode_responses=True, socket_timeout=_PATIENCE_SECONDS
        )
        try:
            yield Stand(server.url, client)
        finally:
            await client.aclose()
