"""The ledger as the reconciler sees it: expired leases, overdue rows, finished campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campaign_worker.delivery.reconciler import DueRow, Resolved
from campaign_worker.storage.database import Database
from campaign_worker.storage.inline import inline_from_json

_EXPIRED_PER_TICK = 5000
_RESENDS_PER_ROW = 3
"""A row that was lost after its mark this often stays in doubt, also under policy resend."""


class PostgresRecovery:
    """Fulfils delivery's Recovery over one Database. All methods raise DatabaseAway."""

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        overdue_seconds: float,
        resend_ambiguous: bool,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._overdue_seconds = overdue_seconds
        self._resend_ambiguous = resend_ambiguous

    async def resolve_expired(self) -> Resolved:
        """Take rows from owners whose lease ran out: in doubt after the mark, scheduled before."""
        sql = self._database.sql
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                sql["resolve_expired"], self._lease_seconds, _EXPIRED_PER_TICK
            )
            doubtful = [row for row in rows if row["state"] == "in_doubt"]
            resend = (
                [row["id"] for row in doubtful if row["attempts"] + 1 < _RESENDS_PER_ROW]
                if self._resend_ambiguous
                else []
            )
            if resend:
                await connection.execute(sql["resend_in_doubt"], resend)
        return Resolved(
            scheduled=len(rows) - len(doubtful),
            in_doubt=len(doubtful) - len(resend),
            resent=len(resend),
        )

    async def due_rows(self, after: int, limit: int) -> Sequence[DueRow]:
        """Rows overdue for a while, by id, from after the given one."""
        rows = await self._database.fetch("due_rows", self._overdue_seconds, after, limit)
        return [due_row(row) for row in rows]

    async def complete_campaigns(self) -> Sequence[int]:
        """Complete campaigns of which nothing is open any more."""
        return [row["id"] for row in await self._database.fetch("complete_campaigns")]


def due_row(row: Any) -> DueRow:
    """Read a row that needs a job."""
    return DueRow(
        id=row["id"],
        campaign_id=row["campaign_id"],
        recipient_id=row["recipient_id"],
        step=row["step"],
        idempotency_key=row["idempotency_key"],
        inline=None if row["inline"] is None else inline_from_json(row["inline"]),
        queue=row["queue"],
        job_id=row["job_id"],
    )
