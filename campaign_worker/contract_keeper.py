"""Looks after an app's tables beside the jobs: every few seconds, in every replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from campaign_worker.errors import ContractBroken, DatabaseAway
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 5.0


class Upkeep(Protocol):
    """What there is to do. Raises errors.DatabaseAway."""

    async def tell_untold(self) -> int:
        """Tell the app endings that it has not been told."""
        ...

    async def tell_counts(self) -> int:
        """Tell the app counts that have changed."""
        ...

    async def tell_suppressions(self) -> int:
        """Tell the app addresses that are suppressed here."""
        ...

    async def look_at_resting(self) -> None:
        """Read campaigns that rest."""
        ...


class ContractKeeper(StartStop):
    """From start to stop. `on_broken` hears of a statement that does not fit any more."""

    def __init__(
        self,
        upkeep: Upkeep,
        on_broken: Callable[[ContractBroken], None],
        *,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        super().__init__()
        self._upkeep = upkeep
        self._on_broken = on_broken
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def tick(self) -> None:
        """Do all of it once; one part that fails keeps no other from its turn."""
        parts: tuple[Callable[[], Awaitable[object]], ...] = (
            self._upkeep.tell_untold,
            self._upkeep.look_at_resting,
            self._upkeep.tell_counts,
            self._upkeep.tell_suppressions,
        )
        for part in parts:
            try:
                await part()
            except ContractBroken as error:
                self._on_broken(error)
            except DatabaseAway as error:
                # Its own users hold intake and say so.
                log.debug("the app's tables are not looked after", error=str(error))
            except Exception:
                log.exception("the app's tables are not looked after")

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._tick_for_ever(), name="contract keeper")

    async def _stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            await self.tick()
