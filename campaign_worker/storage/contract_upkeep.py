"""What no claim and no settle does for an app: the untold is told, the end of a pause noticed.

Each method is one or more short transactions; several replicas may do it at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.storage.contract_sql import refuses_a_row, said
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database

log = structlog.get_logger(__name__)

Key = TypeVar("Key")

_PAGE = 500
_AGAIN_SECONDS = 60.0
_ONE_BY_ONE_SECONDS = 5.0
"""Rows of ours are held meanwhile."""


class ContractUpkeep:
    """All methods raise DatabaseAway, which ContractBroken is one of."""

    def __init__(self, database: Database, tables: AppTables) -> None:
        self._database = database
        self._tables = tables
        self._refused_addresses: set[str] = set()
        self._said: set[tuple[str, str]] = set()

    async def tell_untold(self) -> int:
        """Tell endings that somebody else wrote, or that could not be told; how many were."""
        try:
            return await self._tell_untold()
        except asyncpg.LockNotAvailableError:
            log.warning("the app holds its rows; endings are told later")
            return 0

    async def _tell_untold(self) -> int:
        told, until = 0, time.monotonic() + _ONE_BY_ONE_SECONDS
        while True:
            async with self._database.transaction() as connection:
                rows = await connection.fetch(
                    self._database.sql["contract_lock_unwritten"], _PAGE, _AGAIN_SECONDS
                )
                ids = [row["id"] for row in rows]
                if await self._told(connection, ids):
                    told += len(ids)
                else:
                    told += await self._tell_one_by_one(connection, ids, until)
            if len(ids) < _PAGE or time.monotonic() > until:
                return told

    async def tell_counts(self) -> int:
        """Tell counts that have changed since they were told; of how many campaigns."""
        rows = await self._database.fetch("contract_stale_counts")
        campaigns = [row["campaign_id"] for row in rows]
        return await self._all_but_refused(self._tables.writing.tell_campaigns, campaigns)

    async def tell_suppressions(self) -> int:
        """Tell addresses that are suppressed here and that the app has not been told; how many."""
        writing, told, more = self._tables.writing, 0, self._tables.writing.tells_suppressions
        while more:
            rows = await self._database.fetch(
                "contract_untold_suppressions", _PAGE, list(self._refused_addresses)
            )
            page = [row["address"] for row in rows]
            taken = await self._all_but_refused(
                writing.tell_suppressions, page, self._refused_addresses
            )
            told += taken
            more = len(page) == _PAGE and taken > 0
        return told

    async def look_at_resting(self) -> None:
        """Read campaigns that rest: only the app knows when they go on."""
        keys = [row["key"] for row in await self._database.fetch("contract_resting")]
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            await self._all_but_refused(self._tables.importing.campaigns, page)

    async def _all_but_refused(
        self,
        work: Callable[[PoolConnectionProxy, Sequence[Key]], Awaitable[object]],
        keys: Sequence[Key],
        refused: set[Key] | None = None,
    ) -> int:
        """Do this for all of them in a transaction, or for all but those refused; for how many.

        `refused` takes in which ones were. What takes too long is left to the next look.
        """
        done, until = 0, time.monotonic() + _ONE_BY_ONE_SECONDS
        parts = [keys] if keys else []
        while parts and time.monotonic() < until:
            part = parts.pop()
            try:
                async with self._database.transaction() as connection:
                    await _unless_refused(work(connection, part))
                done += len(part)
            except asyncpg.LockNotAvailableError:
                log.warning("the app holds its rows; it is told later")
                break
            except _RefusedError as error:
                middle = len(part) // 2
                if middle:
                    parts += [part[middle:], part[:middle]]
                    continue
                self._complain(work.__name__, error.by)
                if refused is not None:
                    refused.update(part)
        return done

    def _complain(self, work: str, error: Exception) -> None:
        """Say it once, not every few seconds; without the row, which may be an address."""
        problem = said(error)
        if (work, problem) not in self._said:
            self._said.add((work, problem))
            log.error("refused in looking after the app's tables", work=work, problem=problem)

    async def _told(self, connection: PoolConnectionProxy, ids: list[int]) -> bool:
        """Tell these together; False when a value of one is refused."""
        if not ids:
            return True
        attempt = connection.transaction()
        await attempt.start()
        try:
            await self._tables.writing.tell_all(connection, ids)
        except asyncpg.PostgresError as error:
            if not refuses_a_row(error):
                raise
            await attempt.rollback()
            if len(ids) == 1:
                await self._put_aside(connection, ids[0], error)
            return False
        await attempt.commit()
        return True

    async def _tell_one_by_one(
        self, connection: PoolConnectionProxy, ids: list[int], until: float
    ) -> int:
        """Tell these, each alone; the rest at the next look, once the time is over."""
        told = 0
        for row_id in ids:
            told += await self._told(connection, [row_id])
            if time.monotonic() > until:
                break
        return told

    async def _put_aside(
        self, connection: PoolConnectionProxy, row_id: int, error: asyncpg.PostgresError
    ) -> None:
        problem = said(error)
        log.error("the app's tables refuse an ending", row=row_id, problem=problem)
        await connection.execute(self._database.sql["contract_unwritable"], row_id, problem[:500])


class _RefusedError(Exception):
    """Ends a transaction as what it is, where a statement that takes long is no Postgres away."""

    def __init__(self, by: Exception) -> None:
        super().__init__(str(by))
        self.by = by


async def _unless_refused(work: Awaitable[object]) -> None:
    try:
        await work
    except (asyncpg.PostgresError, asyncpg.DataError) as error:
        if refuses_a_row(error):
            raise _RefusedError(error) from error
        raise
