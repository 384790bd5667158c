"""The ledger as the reconciler sees it: expired leases, due rows, resumed and finished campaigns.

Each method is a chunk: one transaction that takes or keeps the reconciler's lease first.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.delivery.revival import Cursor, DueRow, Resolved, Resumed
from campaign_worker.errors import ReconcilerTaken
from campaign_worker.storage.database import Database
from campaign_worker.storage.inline import inline_from_json
from campaign_worker.storage.steadiness import Steadiness

_EXPIRED_PER_TICK = 5000
_WHOLE_BYTES = 4_000_000
_RESENDS_PER_ROW = 3
"""A row that was lost after its mark this often stays in doubt, also under policy resend."""

_STILL_PUT_OFF_SECONDS = 30.0
"""So long after a campaign is resumed a worker may still put a job off because of the pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryOptions:
    """Times and limits of the reconciler.

    `overdue_seconds`: rows are looked at this long after they were due; those of follow-ups that
    never had a job after `jobless_seconds`. `quarantine_deaths`: owners that a row may lose.
    `hold_seconds`: how long the reconciler's lease outlives its last chunk.
    """

    lease_seconds: float
    overdue_seconds: float
    jobless_seconds: float = 5.0
    resend_ambiguous: bool = False
    quarantine_deaths: int = 5
    hold_seconds: float = 60.0


class PostgresRecovery:
    """Fulfils delivery's Recovery. All methods raise DatabaseAway and ReconcilerTaken.

    `owner` is this process' name for the reconciler's lease; nobody else may have it.
    """

    def __init__(
        self, database: Database, options: RecoveryOptions, *, owner: str | None = None
    ) -> None:
        self._database = database
        self._options = options
        self._owner = owner or str(uuid.uuid4())
        self._epoch: int | None = None
        self._steadiness = Steadiness(options.lease_seconds)
        database.watch(self._steadiness)

    async def take(self, *, by_force: bool = False) -> None:
        """Take or keep the lease; by force also from one who holds it and will notice."""
        async with self._chunk(by_force=by_force):
            pass

    async def release(self) -> None:
        """Give the lease up, if it is ours: another replica need not wait for its end."""
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            await self._database.fetch("release_reconciler", self._owner, epoch)

    async def resolve_expired(self) -> Resolved:
        """Take rows from owners whose lease ran out: in doubt after the mark, scheduled before.

        Nothing after an outage that this process saw, until that is one full lease ago: whoever
        could not renew meanwhile is alive (Steadiness).
        """
        options, sql = self._options, self._database.sql
        async with self._chunk() as connection:
            if not self._steadiness.lasts(time.monotonic()):
                return Resolved()
            rows = await connection.fetch(
                sql["resolve_expired"],
                *(options.lease_seconds, _EXPIRED_PER_TICK, options.quarantine_deaths),
            )
            doubtful = [row for row in rows if row["state"] == "in_doubt"]
            resend = [row["id"] for row in doubtful if self._may_go_again(row)]
            if resend:
                await connection.execute(sql["resend_in_doubt"], resend)
        quarantined = sum(row["state"] == "failed" for row in rows)
        return Resolved(
            scheduled=len(rows) - len(doubtful) - quarantined,
            in_doubt=len(doubtful) - len(resend),
            resent=len(resend),
            quarantined=quarantined,
        )

    async def due_rows(self, after: Cursor, limit: int, *, every: bool) -> Sequence[DueRow]:
        """Rows overdue for a while, or every scheduled row, by due time, from after `after`."""
        # Due times lie at most a follow-up's year ahead.
        overdue = -10 * 366 * 86_400.0 if every else self._options.overdue_seconds
        return await self._rows("due_rows", overdue, after.due_at, after.id, limit)

    async def jobless_rows(self, limit: int) -> Sequence[DueRow]:
        """Rows of follow-ups that came due lately and that no job has ever claimed."""
        options = self._options
        return await self._rows(
            "jobless_rows", options.jobless_seconds, options.overdue_seconds, limit
        )

    async def still_scheduled(self, rows: Sequence[DueRow]) -> Sequence[DueRow]:
        """Those rows that are scheduled now, read anew."""
        return await self._rows("scheduled_rows", [row.id for row in rows])

    async def resumed_campaigns(self) -> Sequence[Resumed]:
        """Campaigns that run again, and whose jobs may still be put off."""
        async with self._chunk(reads=True) as connection:
            rows = await connection.fetch(
                self._database.sql["resumed_campaigns"], _STILL_PUT_OFF_SECONDS
            )
        return [Resumed(row["id"], row["resumed_at"], row["settled"]) for row in rows]

    async def resumed_rows(self, campaign_id: int, after: int, limit: int) -> Sequence[DueRow]:
        """Due rows of one campaign, by id, from after the given one."""
        return await self._rows("resumed_rows", campaign_id, after, limit)

    async def resumption_over(self, resumed: Resumed) -> None:
        """Note that every job of a resumed campaign has been woken."""
        async with self._chunk() as connection:
            await connection.execute(
                self._database.sql["resumption_over"], resumed.campaign_id, resumed.at
            )

    async def complete_campaigns(self) -> Sequence[int]:
        """Complete campaigns of which nothing is open any more."""
        async with self._chunk() as connection:
            rows = await connection.fetch(self._database.sql["complete_campaigns"])
        return [row["id"] for row in rows]

    async def epochs(self, queues: Sequence[str]) -> Mapping[str, str]:
        """Read what the epoch keys of these queues must say, where that is known."""
        async with self._chunk(reads=True) as connection:
            rows = await connection.fetch(self._database.sql["queue_epochs"], list(queues))
        return {row["queue"]: row["epoch"] for row in rows}

    async def write_epochs(self, epochs: Mapping[str, str]) -> None:
        """Note what the epoch keys will say from now on."""
        async with self._chunk() as connection:
            await connection.execute(
                self._database.sql["write_queue_epochs"], list(epochs), list(epochs.values())
            )

    def _may_go_again(self, row: Any) -> bool:
        options = self._options
        lost_too_often = (
            row["attempts"] + 1 >= _RESENDS_PER_ROW or row["deaths"] >= options.quarantine_deaths
        )
        return options.resend_ambiguous and not lost_too_often

    async def _rows(self, statement: str, *arguments: object) -> Sequence[DueRow]:
        async with self._chunk(reads=True) as connection:
            rows = await connection.fetch(self._database.sql[statement], *arguments)
        return [due_row(row) for row in rows]

    @contextlib.asynccontextmanager
    async def _chunk(
        self, *, reads: bool = False, by_force: bool = False
    ) -> AsyncIterator[PoolConnectionProxy]:
        async with self._database.transaction() as connection:
            if not (reads and await self._is_ours(connection)):
                await self._hold(connection, by_force=by_force)
            yield connection

    async def _is_ours(self, connection: PoolConnectionProxy) -> bool:
        statement = self._database.sql["check_reconciler"]
        enough_seconds = self._options.hold_seconds / 2
        held = await connection.fetchval(statement, self._owner, self._epoch, enough_seconds)
        return held is not None

    async def _hold(self, connection: PoolConnectionProxy, *, by_force: bool) -> None:
        sql, hold_seconds = self._database.sql, self._options.hold_seconds
        epoch = await connection.fetchval(
            sql["hold_reconciler"], self._owner, self._epoch, hold_seconds, by_force
        )
        before, self._epoch = self._epoch, None
        if epoch is None:
            raise ReconcilerTaken(await connection.fetchval(sql["read_reconciler"]) or 0.0)
        if before not in (None, epoch):
            # It was somebody else's in between: what this tick knows may be old.
            raise ReconcilerTaken(0.0)
        self._epoch = epoch


def due_row(row: Any) -> DueRow:
    """Read a row that needs a job."""
    return DueRow(
        id=row["id"],
        campaign_id=row["campaign_id"],
        recipient_id=row["recipient_id"],
        step=row["step"],
        idempotency_key=row["idempotency_key"],
        queue=row["queue"],
        job_id=row["job_id"],
        job_timestamp=row["job_timestamp"],
        due_at=row["due_at"],
        due_in_seconds=row["due_in"],
        inline=inline_from_json(row["inline"]) if row.get("inline") else None,
    )


async def whole_rows(database: Database, ids: Sequence[int]) -> AsyncIterator[Sequence[DueRow]]:
    """Give self-contained rows with their mails, as many at a time as fit into some megabytes.

    Those that are not scheduled any more are left out. Raises DatabaseAway.
    """
    page: list[int] = []
    size = 0
    for row in await database.fetch("whole_sizes", list(ids)):
        if page and size + row["size"] > _WHOLE_BYTES:
            yield await _whole(database, page)
            page, size = [], 0
        page.append(row["id"])
        size += row["size"]
    if page:
        yield await _whole(database, page)


async def _whole(database: Database, ids: Sequence[int]) -> Sequence[DueRow]:
    return [due_row(row) for row in await database.fetch("whole_rows", ids)]
