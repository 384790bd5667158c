"""What a crash left behind is found again: expired leases, due rows without a job.

Also completes campaigns of which nothing is open any more.

Runs at start and then at an interval, in every replica: each step is one that two may do at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from campaign_worker.delivery.requests import InlineMail
from campaign_worker.errors import Away
from metrics import Listener, RowsReconciled
from shutdown import StartStop

log = structlog.get_logger(__name__)

PAGE = 1000
PAGES_PER_TICK = 5


@dataclass(frozen=True, slots=True)
class DueRow:
    """A row that is due and scheduled, with what is known of its job."""

    id: int
    campaign_id: int | None
    recipient_id: int | None
    step: int
    idempotency_key: str | None
    inline: InlineMail | None
    queue: str | None
    job_id: str | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of expired leases: rows scheduled again, put in doubt, sent again by policy."""

    scheduled: int
    in_doubt: int
    resent: int


class Recovery(Protocol):
    """What the reconciler asks of the ledger. Raises errors.DatabaseAway."""

    async def resolve_expired(self) -> Resolved:
        """Take rows from owners whose lease ran out."""
        ...

    async def due_rows(self, after: int, limit: int) -> Sequence[DueRow]:
        """Rows overdue for a while, by id, from after the given one."""
        ...

    async def complete_campaigns(self) -> Sequence[int]:
        """Complete campaigns of which nothing is open any more."""
        ...


class Revival(Protocol):
    """What the reconciler asks of the queue. Raises errors.RedisAway."""

    async def revive(self, rows: Sequence[DueRow]) -> int:
        """Give each row a live job unless it has one; how many needed it."""
        ...


class Reconciler(StartStop):
    """Ticks from start to stop; the first tick is at once. What a tick has committed stays."""

    def __init__(
        self, recovery: Recovery, revival: Revival, listener: Listener, *, interval_seconds: float
    ) -> None:
        super().__init__()
        self._recovery = recovery
        self._revival = revival
        self._listener = listener
        self._interval_seconds = interval_seconds
        self._after = 0
        self._task: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._tick_for_ever(), name="reconciler")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def tick(self) -> None:
        """Look once. Raises errors.Away."""
        resolved = await self._recovery.resolve_expired()
        self._report("lease_expired_scheduled", resolved.scheduled)
        self._report("lease_expired_in_doubt", resolved.in_doubt)
        self._report("in_doubt_resent", resolved.resent)
        for _ in range(PAGES_PER_TICK):
            rows = await self._recovery.due_rows(self._after, PAGE)
            self._report("job_revived", await self._revival.revive(rows) if rows else 0)
            # The walk goes on where it was: a long backlog does not hide what lies behind it.
            self._after = rows[-1].id if len(rows) == PAGE else 0
            if self._after == 0:
                break
        completed = await self._recovery.complete_campaigns()
        for campaign in completed:
            log.info("campaign completed", campaign=campaign)
        if completed:
            self._listener.on_event(RowsReconciled("campaign_completed", len(completed)))

    async def _tick_for_ever(self) -> None:
        while True:
            try:
                await self.tick()
            except Away as error:
                # Its own users hold intake and say so; this only looks again later.
                log.debug("not reconciled", error=str(error))
            except Exception:
                log.exception("not reconciled")
            await asyncio.sleep(self._interval_seconds)

    def _report(self, kind: str, count: int) -> None:
        if count:
            log.warning("reconciled", kind=kind, rows=count)
            self._listener.on_event(RowsReconciled(kind, count))
