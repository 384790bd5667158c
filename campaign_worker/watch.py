"""Looks at what nobody reports by itself: how deep the queues are, how late the event loop is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from campaign_worker.errors import RedisAway
from metrics import Listener, LoopLagged, QueueDepth
from shutdown import StartStop, end

DEPTH_EVERY_SECONDS = 10.0
LAG_EVERY_SECONDS = 0.5


class Countable(Protocol):
    """A queue whose jobs can be counted. Raises errors.RedisAway."""

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        ...


class Watch(StartStop):
    """Reports depth and lag from start to stop; `sweep` is called as often as it reports depth."""

    def __init__(
        self,
        queues: Mapping[str, Countable],
        listener: Listener,
        sweep: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._sweep = sweep
        self._queues = queues
        self._listener = listener
        self._tasks: list[asyncio.Task[None]] = []

    async def _start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._watch_depth(), name="queue depth"),
            asyncio.create_task(self._watch_lag(), name="loop lag"),
        ]

    async def _stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        await end(*tasks)

    async def _watch_depth(self) -> None:
        while True:
            # A Redis that is away is reported by its workers; the old numbers stand meanwhile.
            with contextlib.suppress(RedisAway):
                await self._report_depth()
            self._sweep()
            await asyncio.sleep(DEPTH_EVERY_SECONDS)

    async def _report_depth(self) -> None:
        # A copy: a row may name a queue that is new to this process.
        for name, queue in list(self._queues.items()):
            for state, count in (await queue.counts()).items():
                self._listener.on_event(QueueDepth(name, state, count))

    async def _watch_lag(self) -> None:
        while True:
            asked_at = time.monotonic()
            await asyncio.sleep(LAG_EVERY_SECONDS)
            self._listener.on_event(LoopLagged(time.monotonic() - asked_at - LAG_EVERY_SECONDS))
