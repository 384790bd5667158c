"""Mails that failed without fault of their address, and their retry by an operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campaign_worker.delivery.revival import DueRow
from campaign_worker.storage.claim_rows import DEATHS_BESIDE_OTHERS
from campaign_worker.storage.database import Database
from campaign_worker.storage.doubts import Selection, arguments_of
from campaign_worker.storage.recovery import due_row


class Failures:
    """Lists and retries over one Database. All methods raise DatabaseAway.

    Meant are rows whose reason is `exhausted` or `quarantined`, and that never bounced.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, selection: Selection, limit: int) -> list[dict[str, Any]]:
        """Such rows, the oldest first, one dict each, column names as in SQL."""
        rows = await self._database.fetch("failures", *arguments_of(selection), limit)
        return [dict(row) for row in rows]

    async def retry(self, selection: Selection) -> Sequence[DueRow]:
        """Schedule such rows for now, with all their attempts; those that it met.

        Their campaigns run again, where they were completed.
        """
        sql = self._database.sql
        async with self._database.transaction() as connection:
            retried = await connection.fetch(
                sql["retry_failures"], *arguments_of(selection), DEATHS_BESIDE_OTHERS
            )
            ids = [row["id"] for row in retried]
            await connection.execute(sql["reopen_campaigns"], ids)
            rows = await connection.fetch(sql["rows_by_id"], ids)
        return [due_row(row) for row in rows]
