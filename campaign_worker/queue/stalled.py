"""The stalled sweep: returns jobs of workers that died. First at start, then at every interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from campaign_worker.errors import RedisAway

if TYPE_CHECKING:
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.protocol import Protocol


class StalledSweep:
    """One of all the queue's workers sweeps per interval; the script sees to that."""

    def __init__(
        self,
        link: Link,
        protocol: Protocol,
        interval_ms: int,
        *,
        wanted: Callable[[], bool],
        on_recovered: Callable[[list[str]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        """`wanted()` False skips a sweep (worker paused or stopping)."""
        self._link = link
        self._protocol = protocol
        self._interval_seconds = interval_ms / 1000
        self._wanted = wanted
        self._on_recovered = on_recovered
        self._on_error = on_error

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._link.wait_connected()
            if self._wanted():
                await self._sweep()
            await asyncio.sleep(self._interval_seconds)

    async def _sweep(self) -> None:
        try:
            recovered = await self._link.execute(self._protocol.sweep_stalled())
        except RedisAway:
            # Harmless to miss, harmless to have run unseen.
            return
        except ResponseError as error:
            self._on_error(error)
            return
        if recovered:
            self._on_recovered([str(job_id) for job_id in recovered])
