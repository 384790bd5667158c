"""Takes events that are old enough out of the table; the counts keep them. Owns no connection."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from campaign_worker.errors import Away
from campaign_worker.tracking.ports import EventArchive
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 3600.0
PAGE: Final = 5000


class Retention(StartStop):
    """Archives events older than `days`, a page at a time, from start to stop."""

    def __init__(
        self, archive: EventArchive, days: int, *, every_seconds: float = EVERY_SECONDS
    ) -> None:
        super().__init__()
        self._archive = archive
        self._days = days
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Archive all that is old enough; how many events. Raises errors.DatabaseAway."""
        total, moved = 0, PAGE
        while moved == PAGE:
            moved = await self._archive.archive(self._days, PAGE)
            total += moved
        if total:
            log.info("tracking events archived", events=total, older_than_days=self._days)
        return total

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._run_for_ever(), name="retention of tracking")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _run_for_ever(self) -> None:
        while True:
            try:
                await self.run()
            except Away as error:
                log.debug("tracking events not archived", error=str(error))
            except Exception:
                log.exception("tracking events not archived")
            # Replicas that start together do not stay together.
            await asyncio.sleep(self._every_seconds * random.uniform(0.8, 1.2))  # noqa: S311
