"""The run: two trackers are asked while their stores are away and they are killed; the sums."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg

from campaign_worker.embedded.postgres import PostgresServer
from campaign_worker.embedded.redis import RedisServer
from campaign_worker.storage.migrate import migrate
from campaign_worker.storage.statements import load_statements
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from tests.acceptance.process import HTTP, WorkerProcess
from tests.chaos.track.fleet import Fleet, Plan, Say
from tests.chaos.track.judge import COUNTS, Books, Verdict, judge, row_of
from tests.chaos.track.plan import KEY, Class, Kind, Planner, Visit
from tests.chaos.track.sender import Replica, Sender
from tests.fixtures.mailed import Mailed, seed
from tests.support import eventually

CAMPAIGNS = 3
REQUESTS_PER_MAIL = 5
ABREAST = 64

DRAIN_SECONDS = 60.0
ANSWER_SECONDS = 0.1
"""Nobody is to wait longer, as far as the machine has time for those that answer."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. The first six must be 0; they are of rows and counts against requests.

    `lost`: answered, not marked unsecured, and without a row. `invented`: rows beyond the requests.
    `misled`: answers with another status or destination than due. `left_in_redis`: entries that
    nobody has drained. `unsecured` and `limited`: answers that said so; of a limited one no row may
    come. `unanswered`: attempts whose answer was lost, `turned_away`: those that were told to come
    again; all were asked anew. Times are those of all answers, in milliseconds; `over_100_ms` is
    how many took longer, `sender_late_ms` the longest time in which the sender itself did not run.
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
    limited: int
    unanswered: int
    turned_away: int
    kills: int
    planned_kills: int
    stopped_seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    over_100_ms: int
    sender_late_ms: float

    def faults(self) -> list[str]:
        """Say what is not as it has to be."""
        return list(self._faults())

    def _faults(self) -> Iterator[str]:
        for name in ("lost", "invented", "misclassed", "miscounted", "misled", "left_in_redis"):
            if count := getattr(self, name):
                yield f"{name}: {count}"
        if self.kills != self.planned_kills:
            yield f"{self.kills} trackers were killed, not {self.planned_kills}"
        if not self.limited:
            yield "no loop was limited"


async def run(plan: Plan, folder: Path, say: Say, fault: str = "") -> Result:
    """Send everything and compare. Raises when a tracker ends wrongly or nobody answers.

    `fault`: Python that each tracker's process runs first.
    """
    settings = {"max_wal_size": "4GB"}
    async with (
        PostgresServer(folder / "postgres", settings=settings) as postgres,
        RedisServer(folder / "redis", appendfsync="everysec") as redis_server,
    ):
        await migrate(postgres.url)
        mails = max(CAMPAIGNS, plan.requests // REQUESTS_PER_MAIL)
        mailed = await seed(postgres.url, mails, campaigns=CAMPAIGNS)
        visits = Planner(mailed, plan.seed).visits(plan.requests)
        fleet = Fleet(postgres, redis_server, folder, plan, fault)
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
    fleet: Fleet,
    trackers: Sequence[WorkerProcess],
    mailed: Mailed,
    visits: Sequence[Visit],
    say: Say,
) -> Result:
    sender = Sender([Replica(one.port) for one in trackers], plan.pace, plan.seed)
    disturbing = asyncio.create_task(fleet.disturb(sender, say))
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


async def _drained(fleet: Fleet) -> bool:
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
    plan: Plan, fleet: Fleet, sender: Sender, books: Books, verdict: Verdict, entries: int
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
        limited=sender.limited,
        unanswered=sender.unanswered,
        turned_away=sender.turned_away,
        kills=fleet.kills,
        planned_kills=plan.all_kills,
        stopped_seconds=plan.stop_seconds,
        p50_ms=round(1000 * times[len(times) // 2], 2),
        p99_ms=round(1000 * times[len(times) * 99 // 100], 2),
        longest_ms=round(1000 * times[-1], 2),
        over_100_ms=sum(seconds > ANSWER_SECONDS for seconds in times),
        sender_late_ms=round(1000 * sender.late_seconds, 2),
    )
