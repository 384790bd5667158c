"""What a worker looks after now and then: Redis' clock, and producers that wake nobody.

Claims nothing: it only says that a claim is worth a try.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from campaign_worker.errors import RedisAway

if TYPE_CHECKING:
    from campaign_worker.queue.intake import Intake
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.link import Link

#: bullmq 4 has no marker: every job and every due time of its queues shows as an entry of `wait`.
_LOOK_SECONDS = 0.9
_VERSION_SECONDS = 5.0
_CLOCK_SECONDS = 300.0


class Housekeeper:
    """Runs beside the fetcher for as long as the worker lives."""

    def __init__(
        self, link: Link, keys: QueueKeys, intake: Intake, *, clock_seconds: float = _CLOCK_SECONDS
    ) -> None:
        self._link = link
        self._keys = keys
        self._intake = intake
        self._clock_seconds = clock_seconds
        self._wakes_nobody = True

    async def run(self) -> None:
        """Look after everything until cancelled; what Redis does not answer is asked again."""
        version_due, clock_due = 0.0, time.monotonic() + self._clock_seconds
        while True:
            await self._link.wait_connected()
            now = time.monotonic()
            try:
                if now >= version_due:
                    await self._read_version()
                    version_due = now + _VERSION_SECONDS
                if now >= clock_due:
                    await self._link.sync_clock()
                    clock_due = now + self._clock_seconds
                if self._wakes_nobody and self._is_idle():
                    await self._look()
            except (RedisAway, ResponseError):
                version_due = 0.0
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_idle(self) -> bool:
        intake = self._intake
        return intake.open and intake.drained and not intake.limited

    async def _look(self) -> None:
        if await self._link.command("EXISTS", self._keys.of("wait")):
            self._intake.poke()

    async def _read_version(self) -> None:
        """Read `meta.version`; a queue without one may be of bullmq 4 or become one at any time."""
        version = str(await self._link.command("HGET", self._keys.of("meta"), "version") or "")
        self._wakes_nobody = not version or version.startswith("bullmq:4")
