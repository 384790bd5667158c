"""A job in a slot, and how far it has come. State only."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from campaign_worker.errors import PayloadError
    from campaign_worker.queue.abort import AbortReason, AbortSignal
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.locks import HeldLock


class Phase(enum.Enum):
    """How far a job has come; decides who may still touch it."""

    STARTING = "starting"
    RUNNING = "running"
    SETTLING = "settling"
    ABANDONED = "abandoned"


@dataclass(slots=True, eq=False)
class ActiveJob:
    """A job in a slot."""

    job: Job
    token: str
    lock: HeldLock
    fault: PayloadError | None
    phase: Phase = Phase.STARTING
    cancelled: AbortReason | None = None
    task: asyncio.Task[None] | None = None
    outcome: str = "lost"
    #: Whether what became of it was said: from then on it is not the worker's any more.
    told: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def was_cancelled(self) -> AbortReason | None:
        """Why this worker cancelled it, if it did; asked anew after every await."""
        return self.cancelled

    @property
    def signal(self) -> AbortSignal:
        """The signal that its processor reads."""
        return self.lock.signal
