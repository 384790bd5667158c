"""What tracking needs from the world, one small Protocol per need; storage fulfils them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from campaign_worker.tracking.events import StreamEntry, TrackingEvent

Write = Callable[[Sequence[TrackingEvent]], Awaitable[None]]
"""Commits events, each once, however often and in whatever order they come."""


class EventStore(Protocol):
    """Where events belong. Every method raises errors.DatabaseAway."""

    async def write(self, events: Sequence[TrackingEvent]) -> None:
        """Commit events, each once, however often and in whatever order they come."""
        ...

    def session(self) -> AbstractAsyncContextManager[Write]:
        """Give a `write` for batches that follow each other closely, one at a time.

        Neither the beginning nor the end raises; a write that fails is no end.
        """
        ...


class EventStream(Protocol):
    """Where events wait while the store is away. Every method raises errors.RedisAway."""

    async def put(self, events: Sequence[TrackingEvent]) -> None:
        """Write events down, as one entry."""
        ...

    async def page(self, after: str, limit: int) -> Sequence[StreamEntry]:
        """Read entries by age; `after` is "-" for the first page, then "(" and the last id."""
        ...

    async def drop(self, *entries: str) -> None:
        """Delete entries; those that are gone count as deleted."""
        ...


class Links(Protocol):
    """The links of templates. Every method raises errors.DatabaseAway."""

    async def url(self, link_id: int) -> str | None:
        """Look one up; None when there is no such link."""
        ...

    async def after(self, link_id: int, limit: int, last: int) -> Mapping[int, str]:
        """Read links with greater ids, the least first, of the `last` ids only."""
        ...


class LinkCopies(Protocol):
    """Copies of links for when the store is away. Every method raises errors.RedisAway."""

    async def url(self, link_id: int) -> str | None:
        """Look one up; None when it was never copied."""
        ...

    async def keep(self, links: Mapping[int, str]) -> None:
        """Copy links; a link never changes."""
        ...


class EventArchive(Protocol):
    """Takes old events out of the table. Raises errors.DatabaseAway."""

    async def archive(self, days: int, limit: int) -> int:
        """Count up to `limit` events older than `days` into the archive and delete them."""
        ...
