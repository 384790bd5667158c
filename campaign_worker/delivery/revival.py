"""What the reconciler reads and asks for: values, and Protocols that others fulfil.

Values and signatures only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from campaign_worker.delivery.requests import InlineMail


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a walk over rows by (due time, id) has come."""

    due_at: dt.datetime
    id: int


BEGINNING = Cursor(dt.datetime.min.replace(tzinfo=dt.UTC), 0)


@dataclass(frozen=True, slots=True)
class DueRow:
    """A row that is scheduled, with what is known of its job. A due time may lie ahead.

    `inline` is what it carries, and only where it is to be handed on: it may be large.
    `job_timestamp`: when the job of `job_id` was added, in its own milliseconds, if that is known.
    """

    id: int
    campaign_id: int | None
    recipient_id: int | None
    step: int
    idempotency_key: str | None
    queue: str | None
    job_id: str | None
    due_at: dt.datetime
    due_in_seconds: float
    inline: InlineMail | None = None
    job_timestamp: int | None = None

    @property
    def cursor(self) -> Cursor:
        """Where a walk goes on after this row."""
        return Cursor(self.due_at, self.id)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of rows whose lease ran out: how many were scheduled again, and so on."""

    scheduled: int = 0
    in_doubt: int = 0
    resent: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """A campaign that runs again since `at`; `settled`: nobody puts its jobs off any more."""

    campaign_id: int
    at: dt.datetime
    settled: bool


class Recovery(Protocol):
    """What the reconciler asks of the ledger.

    Every method takes or keeps the reconciler's lease, and raises errors.ReconcilerTaken when it is
    another's, errors.DatabaseAway.
    """

    async def release(self) -> None:
        """Give the lease up, if it is ours."""
        ...

    async def resolve_expired(self) -> Resolved:
        """Take rows from owners whose lease ran out."""
        ...

    async def due_rows(self, after: Cursor, limit: int, *, every: bool) -> Sequence[DueRow]:
        """Rows overdue for a while, or every scheduled row, by due time, from after the cursor."""
        ...

    async def jobless_rows(self, limit: int) -> Sequence[DueRow]:
        """Rows of follow-ups that came due lately and that no job has ever claimed."""
        ...

    async def still_scheduled(self, rows: Sequence[DueRow]) -> Sequence[DueRow]:
        """Those rows that are scheduled now, read anew."""
        ...

    async def resumed_campaigns(self) -> Sequence[Resumed]:
        """Campaigns that run again, and whose jobs may still be put off."""
        ...

    async def resumed_rows(self, campaign_id: int, after: int, limit: int) -> Sequence[DueRow]:
        """Due rows of one campaign, by id, from after the given one."""
        ...

    async def resumption_over(self, resumed: Resumed) -> None:
        """Note that every job of a resumed campaign has been woken."""
        ...

    async def complete_campaigns(self) -> Sequence[int]:
        """Complete campaigns of which nothing is open any more."""
        ...

    async def epochs(self, queues: Sequence[str]) -> Mapping[str, str]:
        """Read what the epoch keys of these queues must say, where that is known."""
        ...

    async def write_epochs(self, epochs: Mapping[str, str]) -> None:
        """Note what the epoch keys say from now on."""
        ...


class Sweep(Protocol):
    """One look over the queues: what stands in long lists is read once. Raises errors.RedisAway."""

    async def needy(self, rows: Sequence[DueRow]) -> Sequence[DueRow]:
        """Those rows whose job is absent, has finished, or is in no list."""
        ...

    async def revive(self, rows: Sequence[DueRow]) -> int:
        """Give each row a live job unless it has one; how many needed it."""
        ...

    async def wake(self, rows: Sequence[DueRow]) -> int:
        """Revive, and let delayed jobs run at once; how many needed either."""
        ...


class Revival(Protocol):
    """What the reconciler asks of the queues. Raises errors.RedisAway."""

    def sweep(self) -> Sweep:
        """Begin a look over the queues."""
        ...

    async def call_back(self, campaign_id: int, limit: int) -> int | None:
        """Wake jobs that were put off without a look at their rows; None when none are left."""
        ...

    async def epochs(self) -> Mapping[str, str | None]:
        """Read the epoch key of each of our queues; None where there is none."""
        ...

    async def write_epoch(self, queue: str, epoch: str, *, instead_of: str | None) -> bool:
        """Write one, in place of what is expected there; False when it said something else."""
        ...
