"""Clears the head of a queue of jobs whose campaign rests: they shall hold nobody else's mail up.

One step moves many, after a claim has found one of them. A job that was moved by mistake of time is
woken with the others when the campaign is resumed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from campaign_worker.errors import Away
from shutdown import StartStop

log = structlog.get_logger(__name__)

DELAY_SECONDS = 450.0
SPREAD_SECONDS = 300.0
"""Ten minutes, give or take a quarter: as the first look at a paused campaign's mail."""

_AGAIN_SECONDS = 1.0
_WORTH_SHARE = 0.25


class PutsOff(Protocol):
    """A queue. Raises errors.RedisAway."""

    async def put_off(
        self, campaign_id: int, *, delay_seconds: float, spread_seconds: float
    ) -> tuple[int, int]:
        """Put off a campaign's jobs among the oldest that wait; (looked at, put off)."""
        ...


class Resting(StartStop):
    """From start to stop, one task for each queue and campaign whose jobs are being moved."""

    def __init__(self, queue_of: Callable[[str], PutsOff]) -> None:
        super().__init__()
        self._queue_of = queue_of
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._over_at: dict[tuple[str, int], float] = {}
        self._open = False

    def note(self, queue: str, campaign_id: int) -> None:
        """Take note of a job whose campaign rests; returns at once."""
        key = (queue, campaign_id)
        now = time.monotonic()
        if not self._open or key in self._tasks or now < self._over_at.get(key, now):
            return
        self._over_at = {each: at for each, at in self._over_at.items() if at > now}
        self._tasks[key] = asyncio.create_task(self._clear(key), name="resting campaign")

    async def _start(self) -> None:
        self._open = True

    async def _stop(self) -> None:
        self._open = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _clear(self, key: tuple[str, int]) -> None:
        queue, campaign_id = key
        total = 0
        try:
            while True:
                looked, moved = await self._queue_of(queue).put_off(
                    campaign_id, delay_seconds=DELAY_SECONDS, spread_seconds=SPREAD_SECONDS
                )
                total += moved
                # What lies between others' jobs is left to its turn: it holds nobody up.
                if moved <= looked * _WORTH_SHARE:
                    break
        except Away as error:
            log.debug("not put off", error=str(error))
        except Exception:
            log.exception("not put off", campaign=campaign_id)
        finally:
            self._over_at[key] = time.monotonic() + _AGAIN_SECONDS
            del self._tasks[key]
        if total:
            log.info("jobs of a resting campaign put off", campaign=campaign_id, jobs=total)
