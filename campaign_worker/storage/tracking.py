"""Events, unsubscribes, links and the archive of old events, in Postgres.

Owns the columns of a batch and the repeating of lost races. Classes that follow from other rows are
decided by the functions of migration 0007, in the statement that writes the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime

import structlog

from campaign_worker.errors import DatabaseAway
from campaign_worker.storage.claim_rows import addresses_of
from campaign_worker.storage.database import Call, Database
from campaign_worker.storage.faults import Fault, fault_of
from campaign_worker.tracking.events import TrackingEvent
from campaign_worker.tracking.ports import Write
from campaign_worker.tracking.rules import Timing

log = structlog.get_logger(__name__)

_RACES = 6

Events = Sequence[TrackingEvent]


class PostgresEvents:
    """Fulfils tracking's EventStore for opens and clicks. Methods raise DatabaseAway."""

    def __init__(self, database: Database, timing: Timing) -> None:
        self._database = database
        self._timing = timing

    async def write(self, events: Events) -> None:
        """Commit events, each once; without any, ask whether Postgres takes writes."""
        await self._write(self._database.call, events)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Write]:
        """Give a `write` for batches that follow each other, on one connection."""
        async with self._database.session() as call:
            yield functools.partial(self._write, call)

    async def _write(self, call: Call, events: Events) -> None:
        async def record(events: Events) -> None:
            # The order of the columns is that of the tuple. One that has nothing stays empty, and
            # unnest() fills it up: each element that travels has its price.
            columns = (column if any(column) else () for column in zip(*events, strict=True))
            await call(
                "record_tracking_events",
                *columns,
                self._timing.prefetch_seconds_after_send,
                self._timing.scanner_window_seconds,
            )

        await _written(self._database, record, events)


class PostgresUnsubscribes:
    """Fulfils tracking's EventStore for unsubscribes. Methods raise DatabaseAway.

    `normalize` gives the form in which suppressions are kept. A self-contained mail to several
    carries one link for all of them: whoever uses it ends it for all.
    """

    def __init__(self, database: Database, *, normalize: Callable[[str], str]) -> None:
        self._database = database
        self._normalize = normalize

    async def write(self, events: Events) -> None:
        """Commit unsubscribes, each once; without any, ask whether Postgres takes writes."""
        await _written(self._database, self._record, events)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Write]:
        """Give `write`: unsubscribes are too few to hold a connection for."""
        yield self.write

    async def _record(self, events: Events) -> None:
        messages = sorted({event.message_id for event in events})
        async with self._database.transaction() as connection:
            sql = self._database.sql
            rows = await connection.fetch(sql["addresses_of_messages"], messages)
            addresses = [
                (one, row["id"]) for row in rows for one in addresses_of(row, self._normalize)
            ]
            await connection.execute(
                sql["record_unsubscribes"],
                [event.id for event in events],
                [event.message_id for event in events],
                [event.visitor for event in events],
                [event.machine for event in events],
                [event.client_hash for event in events],
                [event.user_agent for event in events],
                [event.occurred_at for event in events],
                [address for address, _ in addresses],
                [message for _, message in addresses],
            )


class PostgresLinks:
    """Fulfils tracking's Links. Methods raise DatabaseAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def url(self, link_id: int) -> str | None:
        """Look one up; None when there is no such link."""
        url = await self._database.call("link_url", link_id)
        return None if url is None else str(url)

    async def after(self, link_id: int, limit: int, last: int) -> Mapping[int, str]:
        """Read links with greater ids, the least first, of the `last` ids only."""
        rows = await self._database.fetch("links_after", link_id, limit, last)
        return {row["id"]: row["url"] for row in rows}


class PostgresClock:
    """Fulfils what tracking's ClockKeeper asks. Raises DatabaseAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self) -> datetime:
        """Tell the time, with its zone."""
        told: datetime = await self._database.call("store_clock")
        return told


class PostgresArchive:
    """Fulfils tracking's EventArchive. Raises DatabaseAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def archive(self, days: int, limit: int) -> int:
        """Count up to `limit` events older than `days` into the archive and delete them."""
        return int(await self._database.call("archive_tracking_events", days, limit))


async def _written(database: Database, record: Write, events: Events) -> None:
    """Write a batch; repeat lost races, and let a value that Postgres refuses fail alone."""
    if not events:
        await database.ping()
        return
    for race in range(_RACES):
        try:
            await record(events)
        except Exception as error:
            match fault_of(error):
                case Fault.AGAIN:
                    await asyncio.sleep(random.uniform(0.001, 0.01) * 2**race)  # noqa: S311
                case Fault.DATA:
                    await _halved(database, record, events, error)
                    return
                case _:
                    raise
        else:
            return
    raise DatabaseAway(f"Postgres: {_RACES} lost races in a row")


async def _halved(
    database: Database,
    record: Write,
    events: Events,
    error: Exception,
) -> None:
    if len(events) == 1:
        # It would be refused for ever, and hold up all the others.
        log.error("a tracking event was refused", id=str(events[0].id), error=str(error))
        return
    middle = len(events) // 2
    await _written(database, record, events[:middle])
    await _written(database, record, events[middle:])
