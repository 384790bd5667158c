"""Remembers how long the slowest job of each queue took, for who chooses the drain window.

Kept in Redis, a hash a day, for a week; a Redis that is away costs a number and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable
from typing import Any, cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from metrics import Event, JobEnded
from shutdown import StartStop, end

DAYS_KEPT = 7
WRITE_EVERY_SECONDS = 5.0
LAST_WRITE_SECONDS = 0.5

_DAY_SECONDS = 86_400
# Replicas write the same hash: only a longer job replaces a number.
_RAISE = """
for i = 2, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0')
  if tonumber(ARGV[i + 1]) > known then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class SlowestJobs(StartStop):
    """A listener of JobEnded that writes the longest, every 5 s and once more at stop.

    A job that a stop cut off counts with the time that it had: it would have taken longer.
    """

    def __init__(self, client: aioredis.Redis, prefix: str) -> None:
        super().__init__()
        self._client = client
        self._prefix = prefix
        self._longest: dict[str, float] = {}
        self._unwritten: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def on_event(self, event: Event) -> None:
        """Take note of a job that has ended."""
        if isinstance(event, JobEnded) and event.seconds > self._longest.get(event.queue, 0.0):
            self._longest[event.queue] = event.seconds
            self._unwritten.add(event.queue)

    async def write(self) -> None:
        """Write what is longer than what was written. Raises RedisError, OSError, TimeoutError."""
        if not self._unwritten:
            return
        queues, self._unwritten = self._unwritten, set()
        pairs = [item for queue in queues for item in (queue, round(self._longest[queue], 3))]
        key = _key(self._prefix, dt.datetime.now(dt.UTC).date())
        try:
            await self._client.eval(_RAISE, 1, key, DAYS_KEPT * _DAY_SECONDS, *pairs)
        except BaseException:
            self._unwritten |= queues
            raise

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._write_for_ever(), name="slowest jobs")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        await end(task)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(LAST_WRITE_SECONDS):
                await self.write()

    async def _write_for_ever(self) -> None:
        day = dt.datetime.now(dt.UTC).date()
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self.write()
            today = dt.datetime.now(dt.UTC).date()
            if today != day:
                # Each day begins anew, or one bad day would be remembered for ever.
                day = today
                self._longest.clear()
                self._unwritten.clear()


async def slowest_seconds(client: aioredis.Redis, prefix: str) -> dict[str, float]:
    """Return the seconds of each queue's slowest job of the last week. Raises RedisError."""
    today = dt.datetime.now(dt.UTC).date()
    slowest: dict[str, float] = {}
    for days in range(DAYS_KEPT):
        key = _key(prefix, today - dt.timedelta(days=days))
        found = await cast("Awaitable[dict[Any, Any]]", client.hgetall(key))
        for name, seconds in found.items():
            queue = name.decode() if isinstance(name, bytes) else str(name)
            slowest[queue] = max(slowest.get(queue, 0.0), float(seconds))
    return slowest


def _key(prefix: str, day: dt.date) -> str:
    return f"{prefix}:campaign-worker:slowest:{day.isoformat()}"
