"""Servers, a campaign that goes on as long as there are faults, and workers to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import redis.asyncio
import redis.exceptions

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.errors import Away
from campaign_worker.storage.migrate import migrate
from campaign_worker.storage.statements import load_statements
from tests.acceptance.evidence import OPEN_STATES
from tests.acceptance.site import QUEUE, Site
from tests.chaos.kill.fleet import Fleet, Member
from tests.chaos.kill.report import SCHEMA, Report, compare, read_books
from tests.chaos.kill.sink import WatchfulSink
from tests.fixtures.postgres import FAST
from tests.support import eventually

# What it looks like from here when a server is away.
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, redis.exceptions.RedisError, Away)
SPOOL = "campaign-worker:outcomes"
WAVE = 100
LOW_WATER = 100
END_SECONDS = 60.0

# What is long in production, so that nothing is taken from the living, is short here.
IMPATIENT = {
    "CONCURRENCY": "10",
    "LOCK_DURATION_MS": "1500",
    "STALLED_INTERVAL_MS": "500",
    "SEND_TIMEOUT": "2",
    "LEASE_SECONDS": "3",
    "RECONCILE_INTERVAL_SECONDS": "0.3",
    "RECONCILE_OVERDUE_SECONDS": "3",
    # Every mail here meets processes that die of something else.
    "QUARANTINE_DEATHS": "1000",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of a run."""

    seed: int = 1
    mails: int = 500
    policy: str = "hold"
    workers: int = 2
    latency_ms: float = 20.0
    follow_up: bool = True
    appendonly: bool = True


class World:
    """Everything that a run needs; made by `world()`."""

    def __init__(
        self,
        plan: Plan,
        site: Site,
        fleet: Fleet,
        sink: WatchfulSink,
        *,
        redis_server: RedisServer,
        postgres: PostgresServer,
    ) -> None:
        self.plan = plan
        self.random = random.Random(plan.seed)  # noqa: S311 - chaos is to be repeatable
        self.site = site
        self.fleet = fleet
        self.sink = sink
        self.redis = redis_server
        self.postgres = postgres
        self.kills = 0
        self.cuts = 0
        self.settings_of: Callable[[str], Awaitable[dict[str, str]]] | None = None
        """Further settings of a worker that is started."""
        self.enqueued = 0
        self.began_at = time.monotonic()
        self._steps = 2 if plan.follow_up else 1

    def kill(self, member: Member) -> bool:
        """SIGKILL now; the SMTP server notes what was under way."""
        if not member.kill():
            return False
        self.kills += 1
        self.sink.note_kill(member.name)
        return True

    def member(self, name: str) -> Member | None:
        """Find a living worker by its name."""
        found = (one for one in self.fleet.members if one.name == name and one.running)
        return next(found, None)

    async def keep_alive(self) -> None:
        """Have as many workers as planned; one that ended by itself is a fault of ours."""
        living = await self.fleet.check()
        for member in self.fleet.members:
            if not (member.killed or member.retired or member.code is None):
                raise AssertionError(f"{member.name} ended with {member.code}:\n{member.output}")
        for _ in range(self.plan.workers - len(living)):
            await self.fleet.start(self.settings_of)

    async def replace_all(self) -> None:
        """End all workers in good order; keep_alive() starts others."""
        for member in await self.fleet.check():
            member.retired = True
            member.send(signal.SIGTERM)
        for member in self.fleet.members:
            if member.retired:
                await self.fleet.ended(member)

    async def feed_until(self, over: asyncio.Event) -> None:
        """Add waves of recipients, so that there is always work, until all is over."""
        while not over.is_set() or self.enqueued < self.plan.mails:
            with contextlib.suppress(*AWAY):
                if await self._backlog() < LOW_WATER:
                    await self._wave()
                    continue
            await asyncio.sleep(0.05)

    async def _wave(self) -> None:
        campaign = await self.site.campaign(
            WAVE, follow_up_seconds=0 if self.plan.follow_up else None
        )
        self.enqueued += WAVE * self._steps
        # Rows first, jobs second, both idempotent: as `campaign-worker enqueue` does.
        await self._fan_out(campaign.id)
        while True:
            try:
                await self.site.add(campaign, removeOnComplete=True)
            except AWAY:
                await asyncio.sleep(0.05)
            else:
                return

    async def _fan_out(self, campaign: int) -> None:
        statement = load_statements(SCHEMA)["fan_out"]
        while True:
            try:
                async with self.site.postgres() as connection:
                    await connection.fetch(statement, campaign, QUEUE, 0, WAVE)
            except AWAY:
                await asyncio.sleep(0.05)
            else:
                return

    async def _backlog(self) -> int:
        counts = await self.site.job_counts()
        return sum(counts[state] for state in OPEN_STATES)

    async def settled(self, timeout_seconds: float = END_SECONDS) -> None:
        """Wait until nothing is open; what stays open is counted by the report."""

        async def over() -> bool:
            try:
                await self.keep_alive()
                return await self.open_ends() == 0
            except AWAY:
                return False

        with contextlib.suppress(AssertionError):
            await eventually(over, timeout_seconds, says="everything is settled")

    async def open_ends(self) -> int:
        """Count rows that are not final, recipients without a row, jobs, and spooled outcomes."""
        async with self.site.postgres() as connection:
            rows = await connection.fetchval(
                "SELECT count(*) FROM campaign_worker.recipients r"
                " LEFT JOIN campaign_worker.messages m ON m.recipient_id = r.id"
                " WHERE m.state IS NULL OR m.state IN ('scheduled', 'sending')"
            )
        async with self.site.redis() as client:
            spooled = await client.xlen(f"{self.site.prefix}:{SPOOL}")
        return int(rows) + await self._backlog() + int(spooled)

    async def report(self, faults: str) -> Report:
        """Compare everybody's word."""
        stuck = await self.open_ends()
        async with self.site.postgres() as connection:
            books = await read_books(connection)
        found = compare(books, self.sink.mails, self.sink.cut_off, self._steps)
        return Report(
            lost=found.lost,
            duplicated=found.duplicated,
            miscounted=found.miscounted,
            stuck=stuck,
            in_doubt=found.in_doubt,
            in_doubt_limit=len(self.sink.cut_off),
            kills=self.kills,
            cuts=self.cuts,
            mails=self.enqueued,
            accepted=len(self.sink.mails),
            duplicated_unexplained=found.duplicated_unexplained,
            in_doubt_unexplained=found.in_doubt_unexplained,
            attempts_spent=found.attempts_spent,
            quarantined=found.quarantined,
            doubts=found.doubts,
            seconds=round(time.monotonic() - self.began_at, 1),
            policy=self.plan.policy,
            seed=self.plan.seed,
            faults=faults,
        )


@contextlib.asynccontextmanager
async def world(plan: Plan, folder: Path, *, template: Path | None = None) -> AsyncIterator[World]:
    """Start everything, and leave nothing; `template` spares the initdb."""
    async with contextlib.AsyncExitStack() as stack:
        redis_server = await stack.enter_async_context(
            RedisServer(appendonly=plan.appendonly, appendfsync="always")
        )
        postgres = await stack.enter_async_context(PostgresServer(settings=FAST, template=template))
        await migrate(postgres.url)
        sink = await stack.enter_async_context(WatchfulSink(latency_ms=plan.latency_ms))
        site = Site(
            redis_url=redis_server.url,
            database_url=postgres.url,
            sink=sink,
            prefix="chaos",
            folder=folder / "site",
            env={**IMPATIENT, "AMBIGUOUS_SEND": plan.policy},
        )
        fleet = await stack.enter_async_context(Fleet(site.env, folder))
        yield World(plan, site, fleet, sink, redis_server=redis_server, postgres=postgres)
