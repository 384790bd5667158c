"""What a job claimed by hand may write: as in a processor, but one that moves away is let go of."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from campaign_worker.errors import JobNotHeld

if TYPE_CHECKING:
    from campaign_worker.queue.job import Job, JobWriter

T = TypeVar("T")


class ManualWriter:
    """Fulfils job.JobWriter as for a running job; a job that moves itself away is let go of."""

    def __init__(self, inner: JobWriter, let_go: Callable[[Job, str], None]) -> None:
        self._inner = inner
        self._let_go = let_go
        self.update_progress = inner.update_progress
        self.add_log = inner.add_log
        self.update_data = inner.update_data
        self.extend_lock = inner.extend_lock
        self.desk = inner.desk

    async def move_to_delayed(self, job: Job, until_ms: int, token: str) -> None:
        """Put the job off, and let go of it."""
        await self._away(job, self._inner.move_to_delayed(job, until_ms, token))

    async def move_to_wait(self, job: Job, token: str) -> int:
        """Give the job back, and let go of it."""
        return await self._away(job, self._inner.move_to_wait(job, token))

    async def move_to_waiting_children(self, job: Job, token: str, child_key: str) -> bool:
        """Let the job wait for its children, and let go of it if there are any to wait for."""
        move = self._inner.move_to_waiting_children(job, token, child_key)
        return await self._away(job, move)

    async def _away(self, job: Job, move: Coroutine[Any, Any, T]) -> T:
        try:
            moved = await move
        except JobNotHeld:
            self._let_go(job, "lost")
            raise
        if moved is not False:
            self._let_go(job, "deferred")
        return moved
