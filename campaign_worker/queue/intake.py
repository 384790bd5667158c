"""Whether the worker may claim now, and when it should next try. State only, no I/O."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campaign_worker.queue.clock import RedisClock

#: Shortest wait for a due job: a clock that is a little off must not make claims spin.
_LEAST_WAIT_SECONDS = 0.001


class Intake:
    """The gate before every claim. Each change that could let a claim through wakes the fetcher."""

    def __init__(self, clock: RedisClock, maximum_limit_ms: int) -> None:
        self._clock = clock
        self._maximum_limit_ms = maximum_limit_ms
        self._holds: set[str] = set()
        self._limited_until = 0.0
        self._due_ms: int | None = None
        self._woken_at = 0.0
        self.quiet = False
        self.paused = False
        self.drained = False
        self.changed = asyncio.Event()

    @property
    def open(self) -> bool:
        """True while nothing forbids claiming."""
        return not (self.quiet or self.paused or self._holds)

    def hold(self, reason: str) -> bool:
        """Forbid claiming for `reason`; True if it was not forbidden for it before."""
        new = reason not in self._holds
        self._holds.add(reason)
        return new

    def release(self, reason: str) -> bool:
        """Lift one reason; True if there was such a hold. The last one lifted claims at once."""
        if reason not in self._holds:
            return False
        self._holds.discard(reason)
        self.poke()
        return True

    def poke(self) -> None:
        """Claim as soon as that is allowed: there may be a job."""
        self.drained = False
        self._due_ms = None
        self._woken_at = time.monotonic()
        self.changed.set()

    def note_limit(self, ttl_ms: int) -> None:
        """Note a rate limit of `ttl_ms`; try again then, or after the maximum wait."""
        wait_ms = min(ttl_ms, self._maximum_limit_ms)
        self._limited_until = time.monotonic() + wait_ms / 1000
        self.drained = False
        self.changed.set()

    def note_empty(self, due_ms: int, asked_at: float) -> bool:
        """Note that nothing can be claimed; the next delayed job is due at `due_ms` (0: none).

        False for an answer to what was asked (monotonic `asked_at`) before the last wake-up: that
        came over another connection, and the answer knows nothing of the job that it was for.
        """
        self.changed.set()
        if asked_at < self._woken_at:
            return False
        self.drained = True
        self._due_ms = due_ms or None
        return True

    def note_due(self, due_ms: int) -> None:
        """Note that a delayed job is due at `due_ms`, as its marker said.

        Its marker is used up: even if nothing is new, another block must begin.
        """
        if self._due_ms is None or due_ms < self._due_ms:
            self._due_ms = due_ms
        self._woken_at = time.monotonic()
        self.changed.set()

    def wait_seconds(self) -> float | None:
        """Return 0 to claim now, None to wait for a wake-up, else the seconds to the next try."""
        limited = self._limited_until - time.monotonic()
        if limited > 0:
            return limited
        if not self.drained:
            return 0.0
        if self._due_ms is None:
            return None
        return max(_LEAST_WAIT_SECONDS, (self._due_ms - self._clock.now_ms()) / 1000)

    @property
    def limited(self) -> bool:
        """True while the queue's rate limit is known to forbid claims."""
        return self._limited_until > time.monotonic()
