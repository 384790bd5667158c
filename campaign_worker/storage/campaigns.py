"""Campaigns as operators see them: transports, fan-out into rows, the overview of counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campaign_worker.delivery.revival import DueRow
from campaign_worker.storage.database import Database
from campaign_worker.storage.recovery import due_row

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class OpenedCampaign:
    """A campaign that was found; `status` after it was opened for sending."""

    id: int
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A scheduled row whose job is to be added; `due_in_seconds` may be negative."""

    id: int
    recipient_id: int
    step: int
    due_in_seconds: float


class Campaigns:
    """Reads and opens campaigns over one Database. All methods raise DatabaseAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def transports(self, ids: Sequence[int]) -> Mapping[int, str]:
        """Transport names of the campaigns that exist, by id."""
        rows = await self._database.fetch("transports_of_campaigns", list(ids))
        return {row["id"]: row["transport"] for row in rows}

    async def open(self, campaign_id: int) -> OpenedCampaign | None:
        """Let a draft or completed campaign run; None when there is no such campaign."""
        rows = await self._database.fetch("open_campaign", campaign_id)
        if not rows:
            return None
        return OpenedCampaign(campaign_id, rows[0]["name"], rows[0]["status"])

    async def status(self, campaign_id: int) -> str | None:
        """How the campaign stands; None when there is none."""
        rows = await self._database.fetch("campaign_status", campaign_id)
        return rows[0]["status"] if rows else None

    async def change_status(self, campaign_id: int, *, before: str, after: str) -> bool:
        """Bring it from one status to another; False when it had a third one."""
        return bool(await self._database.fetch("set_campaign_status", campaign_id, after, before))

    async def being_woken(self, campaign_id: int, seconds: float) -> None:
        """Keep the reconciler from waking its jobs for so long: somebody else does."""
        await self._database.fetch("wake_by_command", campaign_id, seconds)

    async def due_pages(self, campaign_id: int) -> AsyncIterator[Sequence[DueRow]]:
        """Pages of due rows, by id."""
        after = 0
        while True:
            rows = await self._database.fetch("resumed_rows", campaign_id, after, _PAGE)
            if not rows:
                return
            after = rows[-1]["id"]
            yield [due_row(row) for row in rows]

    async def fan_out(self, campaign_id: int, queue: str) -> int:
        """Make the missing rows of first mails, page by page; how many were made."""
        made = after = 0
        while True:
            (page,) = await self._database.fetch("fan_out", campaign_id, queue, after, _PAGE)
            if page["last"] is None:
                return made
            after = page["last"]
            made += page["made"]

    async def pending_count(self, campaign_id: int) -> int:
        """How many rows are scheduled."""
        return int((await self._database.fetch("pending_count", campaign_id))[0]["pending"])

    async def pending(self, campaign_id: int) -> AsyncIterator[Sequence[PendingRow]]:
        """Pages of rows that are scheduled, by id."""
        after = 0
        while True:
            rows = await self._database.fetch("pending_rows", campaign_id, after, _PAGE)
            if not rows:
                return
            after = rows[-1]["id"]
            yield [
                PendingRow(row["id"], row["recipient_id"], row["step"], row["due_in"])
                for row in rows
            ]

    async def overview(self, limit: int) -> list[dict[str, Any]]:
        """Newest campaigns with their counts, one dict each, column names as in SQL."""
        return [dict(row) for row in await self._database.fetch("campaign_overview", limit)]

    async def untrue_counts(self) -> list[dict[str, Any]]:
        """Campaigns whose counts are not what their rows say; empty when all are true."""
        return [dict(row) for row in await self._database.fetch("verify_counts")]
