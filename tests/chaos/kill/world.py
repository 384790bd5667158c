"""Servers, a campaign that goes on as long as there are faults, and workers to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import redis.asyncio
import redis.exceptions

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.errors import Away
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import JobSpec, Producer
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.storage.migrate import migrate
from campaign_worker.storage.statements import load_statements
from tests.acceptance.evidence import OPEN_STATES
from tests.acceptance.site import NODE_OPTIONS, QUEUE, Site
from tests.chaos.kill.fleet import Fleet, Member
from tests.chaos.kill.jobs import odds, read_jobs
from tests.chaos.kill.provider import Provider
from tests.chaos.kill.report import HOLD, IDEMPOTENT, SCHEMA, Report, compare, read_books
from tests.chaos.kill.sink import WatchfulSink
from tests.fixtures.postgres import FAST
from tests.support import eventually

# What it looks like from here when a server is away.
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, redis.exceptions.RedisError, Away)
SPOOL = "campaign-worker:outcomes"
WAVE = 100
LOW_WATER = 60
FEED_SECONDS = 0.05
END_SECONDS = 120.0

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
    """The options of a run.

    `follow_up_seconds`: after the first mail; None: no follow-up. `delay_ms`: the longest of first
    mails' jobs. `clocks`: by how many seconds workers' clocks are wrong.
    """

    seed: int = 1
    mails: int = 500
    policy: str = HOLD
    workers: int = 2
    latency_ms: float = 20.0
    follow_up_seconds: int | None = 0
    delay_ms: int = 0
    clocks: tuple[float, ...] = (0.0,)
    appendonly: bool = True


class World:
    """Everything that a run needs; made by `world()`."""

    def __init__(
        self,
        plan: Plan,
        site: Site,
        fleet: Fleet,
        sink: WatchfulSink | Provider,
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
        self.at: Counter[str] = Counter()
        """Kills or cuts by named point."""
        self.tapped: Callable[[str], Awaitable[dict[str, str]]] | None = None
        """Further settings of a worker that is started."""
        self.enqueued = 0
        self.began_at = time.monotonic()
        self.forgotten = not plan.appendonly
        """Whether Redis has lost jobs, or will."""
        self._not_before: dict[str, int] = {}
        self._kept: set[int] = set()
        self._steps = 1 if plan.follow_up_seconds is None else 2

    def kill(self, member: Member) -> bool:
        """SIGKILL now; the SMTP server notes what was under way."""
        if not member.kill():
            return False
        self.kills += 1
        self.sink.note_kill(member.name)
        return True

    def member(self, name: str) -> Member | None:
        """Find a living worker by its name."""
        member = self.fleet.members.get(name)
        return member if member is not None and member.running else None

    async def keep_alive(self) -> None:
        """Have as many workers as planned; one that ended by itself is a fault of ours."""
        living = await self.fleet.check()
        for _ in range(self.plan.workers - len(living)):
            await self.fleet.start(self._settings_of)

    async def _settings_of(self, name: str) -> dict[str, str]:
        settings = await self.sink.settings_of(name)
        return settings if self.tapped is None else settings | await self.tapped(name)

    async def replace_all(self) -> None:
        """End all workers in good order; keep_alive() starts others."""
        leaving = await self.fleet.check()
        for member in leaving:
            member.retired = True
            member.send(signal.SIGTERM)
        for member in leaving:
            await self.fleet.ended(member)

    async def feed_until(self, over: asyncio.Event) -> None:
        """Add waves of recipients, so that there is always work, until all is over."""
        while not over.is_set() or self.enqueued < self.plan.mails:
            with contextlib.suppress(*AWAY):
                if await self._ready() < LOW_WATER:
                    await self._wave()
                    continue
            await asyncio.sleep(FEED_SECONDS)

    async def _wave(self) -> None:
        campaign = await self.site.campaign(WAVE, follow_up_seconds=self.plan.follow_up_seconds)
        self.enqueued += WAVE * self._steps
        # Rows first, jobs second, both idempotent: as `campaign-worker enqueue` does.
        await self._fan_out(campaign.id)
        # Both ways: a job that is kept tells what became of it, one that is gone is added anew.
        keep = campaign.id % 2 == 0
        if keep:
            self._kept.add(campaign.id)
        options = {**NODE_OPTIONS, "removeOnComplete": not keep}
        specs = []
        now_ms = time.time_ns() // 1_000_000
        for recipient, email in campaign.addresses.items():
            # Some are due while others are not: whoever takes one may think the rest is due too.
            delay_ms = self.random.randint(0, self.plan.delay_ms)
            self._not_before[email] = now_ms + delay_ms
            job = mail_job(campaign.id, recipient, 0)
            given = {**options, "timestamp": now_ms}
            specs.append(JobSpec(job.name, job.data, job.id, given, delay_ms))
        while True:
            try:
                async with self.site.redis() as client:
                    await Producer(client, QUEUE, self.site.prefix).add_many(specs)
            except AWAY:
                await asyncio.sleep(FEED_SECONDS)
            else:
                return

    async def _fan_out(self, campaign: int) -> None:
        statement = load_statements(SCHEMA)["fan_out"]
        while True:
            try:
                async with self.site.postgres() as connection:
                    await connection.fetch(statement, campaign, QUEUE, 0, WAVE)
            except AWAY:
                await asyncio.sleep(FEED_SECONDS)
            else:
                return

    async def _backlog(self) -> int:
        counts = await self.site.job_counts()
        return sum(counts[state] for state in OPEN_STATES)

    async def _ready(self) -> int:
        """Count jobs that a worker could take now, or soon: what the dead hold is no work."""
        counts = await self.site.job_counts()
        soon = counts["delayed"] if self.plan.delay_ms else 0
        return counts["waiting"] + soon

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
        async with self.site.redis() as client:
            jobs = await read_jobs(client, QueueKeys(QUEUE, self.site.prefix))
        at_odds = odds(books.rows, jobs, () if self.forgotten else self._kept)
        found = compare(
            books,
            self.sink.received,
            self.sink.cut_off,
            steps=self._steps,
            policy=self.plan.policy,
            not_before=self._not_before,
        )
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
            accepted=len(self.sink.received),
            duplicated_unexplained=found.duplicated_unexplained,
            in_doubt_unexplained=found.in_doubt_unexplained,
            early=found.early,
            attempts_spent=found.attempts_spent,
            quarantined=found.quarantined,
            doubts=found.doubts,
            jobs_compared=len(jobs),
            at_odds=at_odds.total(),
            odds=dict(at_odds),
            at=dict(self.at),
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
        sink = await stack.enter_async_context(_server_of(plan))
        site = Site(
            redis_url=redis_server.url,
            database_url=postgres.url,
            sink=sink,
            prefix="chaos",
            folder=folder / "site",
            env={
                **IMPATIENT,
                **({} if plan.policy == IDEMPOTENT else {"AMBIGUOUS_SEND": plan.policy}),
            },
        )
        fleet = await stack.enter_async_context(Fleet(site.env, folder, clocks=plan.clocks))
        yield World(plan, site, fleet, sink, redis_server=redis_server, postgres=postgres)


def _server_of(plan: Plan) -> WatchfulSink | Provider:
    if plan.policy == IDEMPOTENT:
        return Provider(latency_ms=plan.latency_ms, seed=plan.seed)
    return WatchfulSink(latency_ms=plan.latency_ms)
