"""The spool as a Redis stream: outcomes that Postgres could not take. Decides nothing about them.

Every call is bounded: on the way out nobody waits for a Redis that is away as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from campaign_worker.delivery.settlements import Settlement, SpoolEntry
from campaign_worker.delivery.spool import from_fields, to_fields
from campaign_worker.errors import RedisAway

REPLY_SECONDS = 1.0


def spool_key(prefix: str) -> str:
    """Name of the stream: one for all queues and replicas of a prefix."""
    return f"{prefix}:campaign-worker:outcomes"


class RedisSpool:
    """Fulfils delivery's Spool (XADD, XRANGE, XDEL). Methods raise RedisAway."""

    def __init__(self, client: aioredis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    async def put(self, settlement: Settlement) -> str:
        """Write an outcome down; the id of its entry."""
        fields = cast("dict[Any, Any]", to_fields(settlement))
        async with bounded():
            return text_of(await self._client.xadd(self._key, fields))

    async def drop(self, *entries: str) -> None:
        """Delete entries; those that are gone count as deleted."""
        if entries:
            async with bounded():
                await self._client.xdel(self._key, *entries)

    async def page(self, after: str, limit: int) -> Sequence[SpoolEntry]:
        """Read entries by age; `after` is "-" or "(" and an id (XRANGE)."""
        async with bounded():
            found: list[Any] = await self._client.xrange(self._key, min=after, count=limit) or []
        return [
            SpoolEntry(text_of(entry), from_fields(texts_of(fields))) for entry, fields in found
        ]


@contextlib.asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """Give a call to Redis a second. Raises RedisAway for whatever goes wrong with it."""
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisAway(f"Redis: {str(error) or type(error).__name__}") from error


def text_of(value: Any) -> str:
    """Read text of Redis, also through a client that does not decode."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def texts_of(fields: dict[Any, Any]) -> dict[str, str]:
    """Read a mapping of such texts."""
    return {text_of(name): text_of(value) for name, value in fields.items()}
