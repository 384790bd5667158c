"""The run: two trackers, Postgres stopped in the middle of it, one tracker killed meanwhile."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import redis.asyncio

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.storage.migrate import migrate
from campaign_worker.storage.statements import load_statements
from campaign_worker.storage.tracking_stream import events_key, unsubscribes_key
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from tests.acceptance.process import HTTP, WorkerProcess
from tests.chaos.track.judge import COUNTS, Books, Verdict, judge, row_of
from tests.chaos.track.plan import KEY, Class, Kind, Planner, Visit
from tests.chaos.track.sender import Replica, Sender
from tests.fixtures.mailed import Mailed, seed
from tests.support import eventually

PREFIX = "chaos"
CAMPAIGNS = 3
REQUESTS_PER_MAIL = 5
ABREAST = 64
OUTAGE_AT = 0.3
"""Of all requests."""

DRAIN_SECONDS = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for; `pace` in requests/s."""

    requests: int
    pace: float
    stop_seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. The first six must be 0; they are of rows and counts against requests.

    `lost`: answered, not marked unsecured, and without a row. `invented`: rows beyond the requests.
    `misled`: answers with another status or destination than due. `left_in_redis`: entries that
    nobody has drained. `unanswered`: attempts whose answer was lost, `turned_away`: those that were
    told to come again; all were asked anew. Times are those of all answers, in milliseconds.
    """

    lost: int
    invented: int
    misclassed: int
    miscounted: int
    misled: int
    left_in_redis: int
    requests: int
    rows: int
    unsecured: int
    unanswered: int
    turned_away: int
    kills: int
    stopped_seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float

    def faults(self) -> list[str]:
        """Say what is not as it has to be."""
        return list(self._faults())

    def _faults(self) -> Iterator[str]:
        for name in ("lost", "invented", "misclassed", "miscounted", "misled", "left_in_redis"):
            if count := getattr(self, name):
                yield f"{name}: {count}"
        if self.kills != 1:
            yield f"{self.kills} trackers were killed"


class _Fleet:
    """The trackers and their stores, and what is done to them."""

    def __init__(
        self, postgres: PostgresServer, redis_server: RedisServer, folder: Path, plan: Plan
    ) -> None:
        self.postgres = postgres
        self.redis_url = redis_server.url
        self.kills = 0
        self._folder = folder
        self._plan = plan
        self._dice = random.Random(plan.seed)  # noqa: S311 - repeatable, not secret
        self._trackers: list[WorkerProcess] = []
        self._dead: list[WorkerProcess] = []

    def start(self) -> WorkerProcess:
        """Start one more."""
        number = len(self._trackers) + len(self._dead) + 1
        env = {
            "REDIS_URL": self.redis_url,
            "DATABASE_URL": self.postgres.url,
            "BULLMQ_PREFIX": PREFIX,
            "TRACKING_SIGNING_KEYS": f"{KEY.id}:{KEY.secret}",
            "TRACKING_CLIENT_IP_HEADER": "X-Forwarded-For",
            "LOG_FORMAT": "json",
        }
        name = f"tracker-{number}"
        tracker = WorkerProcess(name, env, self._folder / name, command="track")
        tracker.start()
        self._trackers.append(tracker)
        return tracker

    async def disturb(self, sender: Sender, requests: int, say: Say) -> None:
        """Stop Postgres in its time, kill a tracker in the middle of that, start both again."""
        await sender.reached(int(OUTAGE_AT * requests))
        say(f"after {sender.done} requests: Postgres stopped")
        await self.postgres.stop("immediate")
        await asyncio.sleep(self._plan.stop_seconds / 2)
        place = self._dice.randrange(len(self._trackers))
        victim = self._trackers.pop(place)
        await sender.replicas[place].busy()
        victim.send(signal.SIGKILL)
        await victim.kill()
        self._dead.append(victim)
        self.kills += 1
        say(f"after {sender.done} requests: {victim.name} killed, and another one started")
        sender.replicas[place] = Replica(self.start().port)
        await asyncio.sleep(self._plan.stop_seconds / 2)
        await self.postgres.start()
        say(f"after {sender.done} requests: Postgres is back")

    async def stop(self) -> None:
        """Tell all to stop, once they have come up at all; each has to end well."""
        for tracker in self._trackers:
            await tracker.ready()
        for tracker in self._trackers:
            tracker.send(signal.SIGTERM)
        for tracker in self._trackers:
            code = await tracker.ended()
            if code != 0:
                raise RuntimeError(f"{tracker.name} ended with {code}:\n{tracker.tail()}")

    async def kill(self) -> None:
        """Leave none."""
        for tracker in self._trackers:
            await tracker.kill()

    async def entries(self) -> int:
        """Count what waits in Redis."""
        client = redis.asyncio.Redis.from_url(self.redis_url)
        try:
            return int(await client.xlen(events_key(PREFIX))) + int(
                await client.xlen(unsubscribes_key(PREFIX))
            )
        finally:
            await client.aclose()


async def run(plan: Plan, folder: Path, say: Say) -> Result:
    """Send everything and compare. Raises when a tracker ends wrongly or nobody answers."""
    settings = {"max_wal_size": "4GB"}
    async with (
        PostgresServer(folder / "postgres", settings=settings) as postgres,
        RedisServer(folder / "redis", appendfsync="everysec") as redis_server,
    ):
        await migrate(postgres.url)
        mails = max(CAMPAIGNS, plan.requests // REQUESTS_PER_MAIL)
        mailed = await seed(postgres.url, mails, campaigns=CAMPAIGNS)
        visits = Planner(mailed, plan.seed).visits(plan.requests)
        fleet = _Fleet(postgres, redis_server, folder, plan)
        try:
            trackers = [fleet.start(), fleet.start()]
            for tracker in trackers:
                await tracker.ready()
                await _knows_the_links(tracker, mailed)
            return await _sent(plan, fleet, trackers, mailed, visits, say)
        finally:
            await fleet.kill()


async def _sent(
    plan: Plan,
    fleet: _Fleet,
    trackers: Sequence[WorkerProcess],
    mailed: Mailed,
    visits: Sequence[Visit],
    say: Say,
) -> Result:
    sender = Sender([Replica(one.port) for one in trackers], plan.pace, plan.seed)
    disturbing = asyncio.create_task(fleet.disturb(sender, plan.requests, say))
    try:
        await sender.run(visits, ABREAST)
        await disturbing
    finally:
        disturbing.cancel()
        for replica in sender.replicas:
            replica.close()
    say(f"all sent: {sender.unanswered} attempts without an answer, {dict(sender.wrong)}")
    await eventually(lambda: _drained(fleet), DRAIN_SECONDS, says="Redis is drained")
    await fleet.stop()
    books = await _books(fleet.postgres.url, mailed)
    verdict = judge(books, sender.attempts, _classes(visits))
    return _result(plan, fleet, sender, books, verdict, await fleet.entries())


async def _knows_the_links(tracker: WorkerProcess, mailed: Mailed) -> None:
    """Wait until a tracker leads on: links are copied to Redis only once they have been read."""
    urls = TrackingUrls(f"http://127.0.0.1:{tracker.port}", Keyring([KEY]))
    # A message that nobody has: its events are refused by nobody and join no row.
    paths = [urls.click(2**40, link_id=link) for link in mailed.links]

    async def leads_on() -> bool:
        async with aiohttp.ClientSession(timeout=HTTP) as session:
            for path in paths:
                async with session.get(path, allow_redirects=False) as answer:
                    if answer.status != 302:
                        return False
        return True

    await eventually(leads_on, 20.0, says=f"{tracker.name} knows the links")


async def _drained(fleet: _Fleet) -> bool:
    return await fleet.entries() == 0


def _classes(visits: Sequence[Visit]) -> dict[Kind, Class]:
    shots = (shot for visit in visits for shot in visit.shots)
    return {shot.kind: shot.seen_as for shot in shots if shot.kind is not None}


async def _books(url: str, mailed: Mailed) -> Books:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT * FROM campaign_worker.tracking_events")
        messages = await connection.fetch(
            "SELECT m.id, m.first_opened_at, m.first_clicked_at, r.unsubscribed_at"
            " FROM campaign_worker.messages m"
            " JOIN campaign_worker.recipients r ON r.id = m.recipient_id"
        )
        sums = ", ".join(f"sum({name})::bigint AS {name}" for name in COUNTS)
        counts = await connection.fetchrow(f"SELECT {sums} FROM campaign_worker.campaign_counts")
        untrue = await connection.fetch(load_statements("campaign_worker")["verify_counts"])
    finally:
        await connection.close()
    return Books(
        rows=[row_of(dict(row)) for row in rows],
        firsts={row["id"]: (row["first_opened_at"], row["first_clicked_at"]) for row in messages},
        counts=dict(counts or {}),
        left=frozenset(row["id"] for row in messages if row["unsubscribed_at"] is not None),
        untrue=len(untrue),
    )


def _result(
    plan: Plan, fleet: _Fleet, sender: Sender, books: Books, verdict: Verdict, entries: int
) -> Result:
    times = sorted(sender.seconds)
    return Result(
        lost=verdict.lost,
        invented=verdict.invented,
        misclassed=verdict.misclassed,
        miscounted=verdict.miscounted,
        misled=sender.wrong.total(),
        left_in_redis=entries,
        requests=sender.done,
        rows=len(books.rows),
        unsecured=sender.unsecured,
        unanswered=sender.unanswered,
        turned_away=sender.turned_away,
        kills=fleet.kills,
        stopped_seconds=plan.stop_seconds,
        p50_ms=round(1000 * times[len(times) // 2], 2),
        p99_ms=round(1000 * times[len(times) * 99 // 100], 2),
        longest_ms=round(1000 * times[-1], 2),
    )
