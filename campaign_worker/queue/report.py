"""Says what happened: local events with Node's names, and records for the metrics listener."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from metrics import (
    ClaimPolled,
    Fanout,
    IntakeHeld,
    JobClaimed,
    JobEnded,
    JobHandedBack,
    JobLost,
    LockRenewal,
    StalledRecovered,
)

if TYPE_CHECKING:
    from campaign_worker.queue.events import Emitter
    from campaign_worker.queue.job import Job
    from metrics import Event, Listener


class Reporter:
    """One worker's voice. Never raises what a listener raises."""

    def __init__(self, queue: str, emitter: Emitter, listener: Listener | None) -> None:
        self._queue = queue
        self._emitter = emitter
        self._metrics = None if listener is None else Fanout(listener)

    def emit(self, event: str, *arguments: Any) -> None:
        """Emit a local event."""
        self._emitter.emit(event, *arguments)

    def error(self, error: BaseException) -> None:
        """Emit `error`."""
        self._emitter.emit("error", error)

    def polled(self) -> None:
        """Redis answered a claim."""
        if self._metrics is not None:
            self._metrics.on_event(ClaimPolled(self._queue, time.time()))

    def claimed(self, job: Job) -> None:
        """Say that a job became active here; exactly one `ended` follows."""
        if self._metrics is not None:
            self._metrics.on_event(JobClaimed(self._queue, job.name))
        self._emitter.emit("active", job, "waiting")

    def ended(self, job: Job, outcome: str, seconds: float) -> None:
        """Say that a job which became active here has left its slot."""
        if self._metrics is not None:
            self._metrics.on_event(JobEnded(self._queue, job.name, outcome, seconds))

    def stranded(self, job: Job) -> None:
        """Say that a job which never started here could not go back either: it stays active."""
        self._tell(JobClaimed(self._queue, job.name))
        self.ended(job, "abandoned", 0.0)

    def handed_back(self, reason: str) -> None:
        """Say that a job went back to the head of the queue."""
        self._tell(JobHandedBack(self._queue, reason))

    def lost(self, error: BaseException) -> None:
        """Say that a job was no longer ours when its outcome was known."""
        self._tell(JobLost(self._queue))
        self._emitter.emit("error", error)

    def locks_renewed(self, job_ids: list[str]) -> None:
        """Redis renewed these locks."""
        self._tell(LockRenewal(self._queue, "ok"))
        self._emitter.emit("locksRenewed", {"count": len(job_ids), "jobIds": job_ids})

    def locks_refused(self, job_ids: list[str]) -> None:
        """Redis refused these locks."""
        self._tell(LockRenewal(self._queue, "refused"))
        self._emitter.emit("lockRenewalFailed", job_ids)

    def renewal_failed(self, error: BaseException) -> None:
        """Redis did not answer a renewal."""
        self._tell(LockRenewal(self._queue, "error"))
        self._emitter.emit("error", error)

    def stalled(self, job_ids: list[str]) -> None:
        """Say that the sweep returned jobs of workers that had vanished."""
        self._tell(StalledRecovered(self._queue, len(job_ids)))
        for job_id in job_ids:
            self._emitter.emit("stalled", job_id, "active")

    def held(self, reason: str, *, held: bool) -> None:
        """Intake is held for a reason, or no longer."""
        self._tell(IntakeHeld(reason, held))

    def _tell(self, event: Event) -> None:
        # What comes with every job asks by itself, before it makes the record.
        if self._metrics is not None:
            self._metrics.on_event(event)
