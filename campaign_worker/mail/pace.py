"""SEND_RATE_PER_SECOND: one stream of sends for all replicas, kept in Redis and on Redis' clock."""

from __future__ import annotations

from importlib import resources

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from campaign_worker.errors import RedisAway

FURTHEST_SECONDS = 5.0
"""A place that is further away than this is not taken; the job comes back for another."""


class Unpaced:
    """No rate was set: every place is now."""

    async def reserve(self) -> float:
        """Take the next place: no seconds until it comes."""
        return 0.0


class SharedPace:
    """Fulfils delivery's Pace. `key` names the stream."""

    def __init__(self, client: aioredis.Redis, key: str, *, per_second: float) -> None:
        text = (resources.files("campaign_worker.mail") / "pace.lua").read_text()
        self._script = client.register_script(text)
        self._key = key
        self._interval_us = round(1_000_000 / per_second)

    async def reserve(self) -> float:
        """Take the next place; seconds until it comes. Raises RedisAway."""
        furthest_us = round(FURTHEST_SECONDS * 1_000_000)
        try:
            wait_us = await self._script(keys=[self._key], args=[self._interval_us, furthest_us])
        except (RedisError, OSError, TimeoutError) as error:
            raise RedisAway(f"Redis: {error}") from error
        return int(wait_us) / 1_000_000
