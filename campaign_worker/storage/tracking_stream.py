"""What tracking keeps in Redis while Postgres is away: streams of events, and copies of links.

Every call is bounded; each raises RedisAway. Decides nothing about an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import redis.asyncio as aioredis

from campaign_worker.storage.spool import bounded, text_of, texts_of
from campaign_worker.tracking.events import StreamEntry, TrackingEvent, from_fields, to_fields


def events_key(prefix: str) -> str:
    """Name of the stream of opens and clicks: one for all replicas of a prefix."""
    return f"{prefix}:campaign-worker:tracking"


def unsubscribes_key(prefix: str) -> str:
    """Name of the stream of unsubscribes, which are drained before claims begin again."""
    return f"{prefix}:campaign-worker:unsubscribes"


def links_key(prefix: str) -> str:
    """Name of the hash of links: id to URL."""
    return f"{prefix}:campaign-worker:links"


class RedisStream:
    """Fulfils tracking's EventStream (XADD, XRANGE, XDEL); an entry holds a batch."""

    def __init__(self, client: aioredis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    async def put(self, events: Sequence[TrackingEvent]) -> None:
        """Write events down, as one entry."""
        fields = cast("dict[Any, Any]", to_fields(events))
        async with bounded():
            await self._client.xadd(self._key, fields)

    async def page(self, after: str, limit: int) -> Sequence[StreamEntry]:
        """Read entries by age; `after` is "-" or "(" and an id (XRANGE)."""
        async with bounded():
            found: list[Any] = await self._client.xrange(self._key, min=after, count=limit) or []
        return [StreamEntry(text_of(one), from_fields(texts_of(fields))) for one, fields in found]

    async def drop(self, *entries: str) -> None:
        """Delete entries; those that are gone count as deleted."""
        if entries:
            async with bounded():
                await self._client.xdel(self._key, *entries)


class RedisLinks:
    """Fulfils tracking's LinkCopies (HGET, HSET)."""

    def __init__(self, client: aioredis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    async def url(self, link_id: int) -> str | None:
        """Look one up; None when it was never copied."""
        async with bounded():
            found = await cast("Any", self._client.hget(self._key, str(link_id)))
        return None if found is None else text_of(found)

    async def keep(self, links: Mapping[int, str]) -> None:
        """Copy links; a link never changes."""
        if links:
            copies: dict[Any, Any] = {str(link): url for link, url in links.items()}
            async with bounded():
                await cast("Any", self._client.hset(self._key, mapping=copies))
