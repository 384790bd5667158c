"""The signal by which a running job learns that it must stop, and why.

A signal is also a fence: it counts as aborted from the moment the job's lock may have run out,
even if nobody has told it so yet (a stopped process, a blocked loop).
"""

from __future__ import annotations

import asyncio
import enum
import math
import time


class AbortReason(enum.Enum):
    """Who ended the job's right to run."""

    SHUTDOWN = "shutdown"
    LOCK_LOST = "lock_lost"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class AbortSignal:
    """Read by the processor; set by the worker. Once aborted it stays so, with the first reason."""

    __slots__ = ("_event", "_reason", "detail", "valid_until")

    def __init__(self) -> None:
        self._reason: AbortReason | None = None
        self._event: asyncio.Event | None = None
        #: What the one who cancelled the job had to say, if anything.
        self.detail: str | None = None
        #: Monotonic second after which the job's lock may be gone; written by the lock renewer.
        self.valid_until: float = math.inf

    @property
    def aborted(self) -> bool:
        """True when the job must do nothing more that others can see."""
        return self.reason is not None

    @property
    def lock_lost(self) -> bool:
        """True when it was aborted because its lock is gone, or may be."""
        return self.reason is AbortReason.LOCK_LOST

    @property
    def reason(self) -> AbortReason | None:
        """Why, or None while the job may go on."""
        if self._reason is None and time.monotonic() > self.valid_until:
            self._reason = AbortReason.LOCK_LOST
        return self._reason

    async def wait(self) -> AbortReason:
        """Return the reason as soon as there is one."""
        if self._event is None:
            self._event = asyncio.Event()
        while (reason := self.reason) is None:
            await self._event.wait()
        return reason

    def fence(self) -> None:
        """Mark the lock as lost; safe from any thread, wakes nobody (see `abort`)."""
        self.valid_until = -math.inf

    def renew(self, until: float) -> None:
        """Take over a renewal's result; a lock that was lost stays lost. The renewer's alone."""
        if self._reason is not AbortReason.LOCK_LOST and self.valid_until != -math.inf:
            self.valid_until = until

    def abort(self, reason: AbortReason, detail: str | None = None) -> None:
        """Set the reason unless there is one, and wake who waits. Event loop only."""
        if self.reason is None:
            self._reason, self.detail = reason, detail
        if self._event is not None:
            self._event.set()
