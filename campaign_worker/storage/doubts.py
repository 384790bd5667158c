"""Mails whose outcome SMTP could not tell, and what an operator says of them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from campaign_worker.delivery.revival import DueRow
from campaign_worker.storage.database import Database
from campaign_worker.storage.recovery import due_row


class Verdict(enum.Enum):
    """What an operator can say of a mail in doubt; values are the states that follow."""

    RESEND = "scheduled"
    MARK_SENT = "sent"
    MARK_FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which mails are meant: rows by id, or a campaign's; both None: all that there are."""

    rows: tuple[int, ...] | None = None
    campaign_id: int | None = None


class Doubts:
    """Lists and decides over one Database. All methods raise DatabaseAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, selection: Selection, limit: int) -> list[dict[str, Any]]:
        """Rows in doubt, one dict each, column names as in SQL; no address among them."""
        rows = await self._database.fetch("doubts", *arguments_of(selection), limit)
        return [dict(row) for row in rows]

    async def decide(self, selection: Selection, verdict: Verdict) -> Sequence[DueRow]:
        """Write the verdict; rows that are in doubt no more are left alone. The rows it met.

        A mail that is said to be sent counts, is billed, and its follow-up is scheduled, as if the
        250 had come.
        """
        sql = self._database.sql
        async with self._database.transaction() as connection:
            decided = await connection.fetch(
                sql["decide_doubts"], *arguments_of(selection), verdict.value
            )
            ids = [row["id"] for row in decided]
            if verdict is Verdict.MARK_SENT:
                await connection.execute(sql["record_usage"], ids)
                await connection.execute(sql["schedule_next_steps"], ids)
            rows = await connection.fetch(sql["rows_by_id"], ids)
        return [due_row(row) for row in rows]


def arguments_of(selection: Selection) -> tuple[list[int] | None, int | None]:
    """Give what a statement over a selection takes first: ids, campaign."""
    return (None if selection.rows is None else list(selection.rows), selection.campaign_id)
