"""Writes a row's ending, whatever is away: the worst of all is an accepted mail nobody recorded.

An ending is written until Postgres has taken it. What it does not take within a second goes to the
spool as well, so that a stop deadline, or a crash, cuts only the trying short.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import assert_never

import structlog

from campaign_worker.delivery.ports import Gate, Ledger, Spool
from campaign_worker.delivery.settlements import (
    Ending,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    SettleAnswer,
    Settlement,
)
from campaign_worker.errors import DatabaseAway, RedisAway, RowRefused

log = structlog.get_logger(__name__)

_LAST_WRITE_SECONDS = 2.0
"""How long a cancelled job may still take to write its row's ending: part of the reserve."""

_SPOOL_AFTER_SECONDS = 1.0
_BARE_RETRY_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


class Writer:
    """Writes settlements through the ledger, and beside it into the spool."""

    def __init__(self, ledger: Ledger, spool: Spool, gate: Gate) -> None:
        self._ledger = ledger
        self._spool = spool
        self._gate = gate

    async def write_at_last(self, settlement: Settlement) -> None:
        """Write an ending in the last moment of a job that was cancelled; bounded."""
        writing = asyncio.create_task(self._write_until_taken(settlement))
        await self._last_moment(settlement, writing, None)

    async def write(self, settlement: Settlement) -> SettleAnswer:
        """Write an ending until its row has taken it. Raises RowRefused if it never will."""
        writing = asyncio.create_task(self._write_until_taken(settlement))
        kept: str | None = None
        try:
            await asyncio.wait([writing], timeout=_SPOOL_AFTER_SECONDS)
            while not writing.done():
                if kept is None:
                    kept = await self._keep(settlement)
                # Redis may be away as well, and come back first.
                await asyncio.wait([writing], timeout=_LONGEST_PAUSE_SECONDS)
            answer = writing.result()
        except asyncio.CancelledError:
            # This job was cancelled at the stop deadline.
            await self._last_moment(settlement, writing, kept)
            raise
        if kept is not None:
            await self._forget(kept)
        return answer

    async def _last_moment(
        self, settlement: Settlement, writing: asyncio.Task[SettleAnswer], kept: str | None
    ) -> None:
        """Wait a bounded time for the row, and have the ending written down before it is over."""
        keeping = None if kept else asyncio.create_task(self._keep_soon(settlement, writing))
        try:
            tasks = [writing] if keeping is None else [writing, keeping]
            await asyncio.wait(tasks, timeout=_LAST_WRITE_SECONDS)
        finally:
            written = writing.done() and not writing.cancelled() and writing.exception() is None
            writing.cancel()
            if keeping is not None:
                kept = keeping.result() if keeping.done() and not keeping.cancelled() else None
                keeping.cancel()
        if written and kept is not None:
            await self._forget(kept)

    async def _keep_soon(
        self, settlement: Settlement, writing: asyncio.Task[SettleAnswer]
    ) -> str | None:
        """Write an ending down unless its row takes it at once."""
        await asyncio.wait([writing], timeout=_FIRST_PAUSE_SECONDS)
        return None if writing.done() else await self._keep(settlement)

    async def _keep(self, settlement: Settlement) -> str | None:
        """Write an ending down; its entry, None when Redis is away as well."""
        try:
            entry = await self._spool.put(settlement)
        except RedisAway as error:
            log.error("an outcome is nowhere yet", row=settlement.id, error=str(error))
            return None
        log.warning("an outcome was written down for Postgres", row=settlement.id, entry=entry)
        return entry

    async def _forget(self, entry: str) -> None:
        try:
            await self._spool.drop(entry)
        except RedisAway as error:
            # Whoever drains it finds that the row has taken it.
            log.debug("an entry stays", entry=entry, error=str(error))

    async def _write_until_taken(self, settlement: Settlement) -> SettleAnswer:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._ledger.settle(settlement)
            except DatabaseAway as error:
                self._gate.database_away(error)
            except RowRefused as error:
                # What happened matters more than its details.
                bare = _bare(settlement.ending)
                if bare == settlement.ending:
                    raise
                log.error("details of an ending left out", row=settlement.id, reason=str(error))
                settlement = replace(settlement, ending=bare)
            await asyncio.sleep(pause_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


def _bare(ending: Ending) -> Ending:
    """Keep only what Postgres cannot refuse: the state, our own reason, our own Message-ID."""
    match ending:
        case MarkSent(message_id):
            return MarkSent(message_id, "")
        case MarkFailed(reason, _, attempt_spent):
            return MarkFailed(reason, "", attempt_spent)
        case MarkRetry():
            return MarkRetry("", _BARE_RETRY_SECONDS)
        case MarkReleased(unknown=unknown):
            return MarkReleased("", _BARE_RETRY_SECONDS, unknown)
        case MarkInDoubt(message_id, _, resend):
            return MarkInDoubt(message_id, "", resend)
        case _:
            assert_never(ending)
