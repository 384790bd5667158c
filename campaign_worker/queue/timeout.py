"""How long a job may take: first its signal, after a grace its cancellation, then an error.

Around the processor only: the outcome is written however long that takes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from campaign_worker.errors import JobTimedOut
from campaign_worker.queue.abort import AbortReason
from campaign_worker.queue.endings import Failed, HandedBack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from campaign_worker.queue.abort import AbortSignal
    from campaign_worker.queue.job import Job

_GRACE_SHARE = 0.25
_GRACE_SECONDS_MOST = 5.0


class TimeLimit:
    """A processor that is told when its time is over, and cancelled a grace later.

    The grace is a quarter of the limit, 5 s at most. A job that ends by itself within it has ended
    so; one that gives itself back, or is cancelled, fails with JobTimedOut.
    """

    def __init__(
        self, process: Callable[[Job, str, AbortSignal], Awaitable[Any]], limit_ms: int
    ) -> None:
        self._process = process
        self._limit_ms = limit_ms
        self._seconds = limit_ms / 1000
        self._grace_seconds = min(self._seconds * _GRACE_SHARE, _GRACE_SECONDS_MOST)

    async def __call__(self, job: Job, token: str, signal: AbortSignal) -> Any:
        """Run the processor. Raises JobTimedOut, and what the processor raises."""
        loop = asyncio.get_running_loop()
        telling = loop.call_later(self._seconds, signal.abort, AbortReason.TIMEOUT)
        bound = asyncio.timeout(self._seconds + self._grace_seconds)
        try:
            async with bound:
                ending = await self._process(job, token, signal)
        except TimeoutError as error:
            if bound.expired() and isinstance(error.__cause__, asyncio.CancelledError):
                raise JobTimedOut(job.id, self._limit_ms) from None
            raise
        finally:
            telling.cancel()
        if isinstance(ending, HandedBack) and signal.reason is AbortReason.TIMEOUT:
            return Failed(JobTimedOut(job.id, self._limit_ms))
        return ending
