"""Follows a campaign while it runs: shows it, and ends it when it is stuck or a worker has died.

Reads only: the SMTP server's store, one statement in Postgres, /health of each worker, and the
queue's states once all rows are final.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campaign_worker.demo.campaign import SCHEMA
from campaign_worker.demo.evidence import jobs_left
from campaign_worker.demo.progress import Display, Frame
from campaign_worker.errors import DemoFailed
from campaign_worker.storage.statements import quoted_schema

if TYPE_CHECKING:
    import aiohttp
    from asyncpg import Connection
    from redis.asyncio import Redis

    from campaign_worker.demo.worker import Health, Worker
    from campaign_worker.embedded.stack import EmbeddedStack

POLL_SECONDS = 0.1
STUCK_SECONDS = 30.0

_TABLES = quoted_schema(SCHEMA)
_COUNT = f"""
    SELECT m.*, c.unique_open_count AS opened, c.unique_click_count AS clicked,
           c.unsubscribed_count AS unsubscribed, c.unsubscribed_count + c.open_count
           + c.machine_open_count + c.click_count + c.machine_click_count AS tracked
    FROM {_TABLES}.campaign_counts c CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'sent' AND step = 0) AS first_sent,
               count(*) FILTER (WHERE state = 'sent' AND step > 0) AS follow_ups_sent,
               count(*) FILTER (WHERE state = 'skipped') AS skipped,
               count(*) FILTER (WHERE state IN ('scheduled', 'sending')) AS open
        FROM {_TABLES}.messages x WHERE x.campaign_id = c.campaign_id) m
    WHERE c.campaign_id = $1
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The campaign at one moment; `open` rows are scheduled or being sent.

    `opened` and `clicked` are mails, `unsubscribed` recipients; `tracked` is all that readers did.
    `jobs_left` is None while rows are open.
    """

    accepted: int
    first_sent: int
    follow_ups_sent: int
    skipped: int
    open: int
    opened: int
    clicked: int
    unsubscribed: int
    tracked: int
    jobs_left: int | None
    health: dict[str, Health]

    @property
    def ended(self) -> bool:
        """Whether every row is final; a sent first mail and its follow-up's row come together."""
        return self.open == 0

    @property
    def idle(self) -> bool:
        """Whether the queue has nothing left to do either; a skipped row's job still runs."""
        return self.jobs_left == 0

    @property
    def sent(self) -> int:
        """Rows that are sent."""
        return self.first_sent + self.follow_ups_sent

    def in_flight(self, worker: Worker) -> int:
        """How many jobs the worker has in hand; 0 when it does not answer."""
        found = self.health.get(worker.name)
        return 0 if found is None else found.in_flight

    def consuming(self, worker: Worker) -> bool:
        """Whether its /health says 200."""
        found = self.health.get(worker.name)
        return found is not None and found.consuming


class Watch:
    """Waits for moments of one campaign of `mails` mails."""

    def __init__(  # noqa: PLR0913 - everything that is looked at, passed by name
        self,
        *,
        connection: Connection,
        redis: Redis,
        stack: EmbeddedStack,
        session: aiohttp.ClientSession,
        display: Display,
        campaign_id: int,
        mails: int,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._stack = stack
        self._session = session
        self._display = display
        self._campaign_id = campaign_id
        self._mails = mails
        self._stuck_seconds = stuck_seconds
        self._began_at = time.monotonic()
        self._workers: list[Worker] = []
        self._checks: list[Callable[[], None]] = []

    def guard(self, check: Callable[[], None]) -> None:
        """Call this too at each look; what it raises ends the demo."""
        self._checks.append(check)

    def follow(self, worker: Worker) -> None:
        """Look after this worker too from now on."""
        self._workers.append(worker)

    async def until(
        self,
        reached: Callable[[Snapshot], bool],
        step: str,
        at_most_seconds: float = math.inf,
    ) -> Snapshot:
        """Wait for a moment and return its snapshot; nothing is awaited between the two.

        When it has not come after `at_most_seconds`, the snapshot of then is returned.
        Raises DemoFailed when a worker ends badly, or when nothing changes for too long.
        """
        began_at = changed_at = time.monotonic()
        last = ""
        while True:
            snapshot = await self._look()
            self._show(snapshot, step)
            if reached(snapshot) or time.monotonic() - began_at >= at_most_seconds:
                return snapshot
            self._check()
            seen = f"{snapshot.accepted} {snapshot.sent} {snapshot.skipped} {snapshot.tracked}"
            if seen != last:
                changed_at, last = time.monotonic(), seen
            elif time.monotonic() - changed_at > self._stuck_seconds:
                raise self._stuck(snapshot, step)
            await asyncio.sleep(POLL_SECONDS)

    def _check(self) -> None:
        for worker in self._workers:
            worker.check()
        for server in (self._stack.redis, self._stack.postgres, self._stack.sink):
            if server.process is not None and not server.running:
                code = server.process.returncode
                problem = f"ended by itself with exit code {code}"
                raise DemoFailed(server.name, problem, server.process.log_tail())
        for check in self._checks:
            check()

    async def _look(self) -> Snapshot:
        row = await self._connection.fetchrow(_COUNT, self._campaign_id)
        if row is None:
            raise RuntimeError("a count without a row")
        return Snapshot(
            accepted=self._stack.sink.count(),
            first_sent=row["first_sent"],
            follow_ups_sent=row["follow_ups_sent"],
            skipped=row["skipped"],
            open=row["open"],
            opened=row["opened"],
            clicked=row["clicked"],
            unsubscribed=row["unsubscribed"],
            tracked=row["tracked"],
            jobs_left=None if row["open"] else await jobs_left(self._redis),
            health=await self._health(),
        )

    async def _health(self) -> dict[str, Health]:
        living = [worker for worker in self._workers if worker.running]
        answers = await asyncio.gather(*(worker.health(self._session) for worker in living))
        pairs = zip(living, answers, strict=True)
        return {worker.name: answer for worker, answer in pairs if answer is not None}

    def _show(self, snapshot: Snapshot, step: str) -> None:
        in_flight = {
            worker.name: snapshot.in_flight(worker)
            for worker in self._workers
            if worker.name in snapshot.health and worker.command == "run"
        }
        self._display.show(
            Frame(
                seconds=time.monotonic() - self._began_at,
                step=step,
                accepted=snapshot.accepted,
                sent=snapshot.sent,
                mails=self._mails - snapshot.skipped,
                opened=snapshot.opened,
                clicked=snapshot.clicked,
                unsubscribed=snapshot.unsubscribed,
                in_flight=in_flight,
            )
        )

    def _stuck(self, snapshot: Snapshot, step: str) -> DemoFailed:
        problem = (
            f"no progress for {self._stuck_seconds:g} s: {snapshot.accepted} of {self._mails} mails"
            f" accepted, {snapshot.sent} rows sent, {snapshot.open} rows open"
        )
        logs = [f"{worker.name}:\n{worker.log_tail()}" for worker in self._workers]
        return DemoFailed(step, problem, "\n".join(logs))
