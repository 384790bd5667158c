"""What time it is by the store, whose times those of events are compared with. Knows no driver.

A machine's clock may be wrong, or be set. While it is right, a request pays nothing for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from campaign_worker.errors import Away
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 15.0
FIRST_PAUSE_SECONDS: Final = 0.05
"""A tracker is ready with Redis alone, and Postgres may be there a moment later."""
SLACK: Final = timedelta(seconds=1)
"""So wrong a clock may be: rules about seconds after a send bear it."""


class Clock:
    """`now` gives the time, in UTC; it is exchanged when this machine's turns out to be wrong."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self.now: Callable[[], datetime] = _of_the_machine

    def correct(self, ahead: timedelta) -> None:
        """Take note of how far the store's clock is ahead of this machine's."""
        wrong = abs(ahead) > SLACK
        if wrong and abs(ahead - self._ahead) > SLACK:
            log.warning("tracking", problem="clock is wrong", seconds=-round(ahead.total_seconds()))
        self._ahead = ahead if wrong else timedelta()
        self.now = partial(_shifted, ahead) if wrong else _of_the_machine


class ClockKeeper(StartStop):
    """Compares the clock with the store's, from start to stop. `ask` raises errors.DatabaseAway."""

    def __init__(
        self,
        clock: Clock,
        ask: Callable[[], Awaitable[datetime]],
        *,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._ask = ask
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Compare once. An answer that took too long to tell is none."""
        asked_at, began_at = _of_the_machine(), time.monotonic()
        theirs = await self._ask()
        took = timedelta(seconds=time.monotonic() - began_at)
        if took <= SLACK:
            self._clock.correct(theirs - asked_at - took / 2)

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="clock of tracking")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _look_for_ever(self) -> None:
        pause_seconds = min(FIRST_PAUSE_SECONDS, self._every_seconds)
        while True:
            try:
                await self.look()
                pause_seconds = self._every_seconds
            except Away as error:
                log.debug("tracking", problem="the clock was not compared", error=str(error))
            except Exception:
                log.exception("tracking")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, self._every_seconds)


_of_the_machine = partial(datetime.now, UTC)


def _shifted(ahead: timedelta) -> datetime:
    return datetime.now(UTC) + ahead
