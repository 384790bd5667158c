"""The servers that both trackers share, a database for each run, and what Postgres has cost."""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import psutil

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.storage.migrate import migrate
from tests.fixtures.mailed import Mailed, seed

_TEMPLATE = "seeded"
#: clock_getcpuclockid(3): a process's CPU clock, by its pid, that counts all of its threads.
_CPU_CLOCK_KIND = 2

# What a tracker keeps that inserts per request: the same facts and one index, but no counts. Once
# with the references that such a table has, once without anything that Postgres could check.
_NODE_TABLES = """
CREATE SCHEMA tracker;
CREATE TABLE tracker.events (
    id          uuid PRIMARY KEY,
    message_id  bigint NOT NULL REFERENCES campaign_worker.messages (id),
    link_id     bigint REFERENCES campaign_worker.links (id),
    kind        text NOT NULL,
    user_agent  text,
    client      bytea,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX events_message ON tracker.events (message_id);
CREATE TABLE tracker.lean_events (
    id          uuid PRIMARY KEY,
    message_id  bigint NOT NULL,
    link_id     bigint,
    kind        text NOT NULL,
    user_agent  text,
    client      bytea,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX lean_events_message ON tracker.lean_events (message_id);
"""


class Stand:
    """Postgres and Redis as the demo has them, and a database that every run gets a copy of."""

    def __init__(self, postgres: PostgresServer, redis: RedisServer) -> None:
        self.postgres = postgres
        self.redis = redis
        self._numbers = itertools.count(1)

    async def seed(self, messages: int) -> Mailed:
        """Write the mails that are tracked, and the tables of both trackers."""
        url = await self.postgres.create_database(_TEMPLATE)
        await migrate(url)
        connection = await asyncpg.connect(url)
        await connection.execute(_NODE_TABLES)
        await connection.close()
        mailed = await seed(url, messages)
        connection = await asyncpg.connect(url)
        # An hour after a campaign went out, autovacuum has been there.
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        return mailed

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """Give the URL of a fresh copy, with no checkpoint due; it is gone afterwards."""
        name = f"run{next(self._numbers)}"
        url = await self.postgres.create_database(name, template=_TEMPLATE)
        await self.postgres.execute("CHECKPOINT")
        yield url
        await self.postgres.drop_database(name)

    async def rows(self, url: str) -> int:
        """Count the events of a run, whoever wrote them."""
        connection = await asyncpg.connect(url)
        try:
            return int(
                await connection.fetchval(
                    "SELECT (SELECT count(*) FROM campaign_worker.tracking_events)"
                    " + (SELECT count(*) FROM tracker.events)"
                    " + (SELECT count(*) FROM tracker.lean_events)"
                )
            )
        finally:
            await connection.close()

    def cpu_seconds(self) -> float:
        """CPU time of Postgres so far: its living processes, and those that have ended."""
        return cpu_seconds(self.postgres.family) + _of_the_dead(self.postgres.pid)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time that all threads of these have had, user and system."""
    total = 0.0
    for process in processes:
        # One may end meanwhile; its parent then answers for it.
        with suppress(psutil.NoSuchProcess, OSError):
            if platform.system() == "Linux":
                # psutil reads it in clock ticks: coarse for a short run.
                total += time.clock_gettime_ns((~process.pid << 3) | _CPU_CLOCK_KIND) / 1e9
            else:
                times = process.cpu_times()
                total += times.user + times.system
    return total


def _of_the_dead(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.children_user + times.children_system)


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    """Start Postgres and Redis below a folder; they are gone afterwards."""
    # Vacuum by itself would fall into one run and not into another.
    settings = {"autovacuum": "off", "max_wal_size": "4GB"}
    async with (
        PostgresServer(folder / "postgres", settings=settings) as postgres,
        RedisServer(folder / "redis") as redis,
    ):
        yield Stand(postgres, redis)
