"""BullMQ: claim, lock, finish, hand back. Knows nothing of e-mail."""

from campaign_worker.queue.abort import AbortReason, AbortSignal
from campaign_worker.queue.connection import ConnectionSpec
from campaign_worker.queue.control import (
    DelayedError,
    RateLimitError,
    UnrecoverableError,
    WaitingChildrenError,
    WaitingError,
)
from campaign_worker.queue.endings import Completed, Deferred, Ending, Failed, HandedBack, Json
from campaign_worker.queue.job import Job
from campaign_worker.queue.options import WorkerOptions
from campaign_worker.queue.producer import JobSpec, Producer, Revival
from campaign_worker.queue.worker import Worker

__all__ = [
    "AbortReason",
    "AbortSignal",
    "Completed",
    "ConnectionSpec",
    "Deferred",
    "DelayedError",
    "Ending",
    "Failed",
    "HandedBack",
    "Job",
    "JobSpec",
    "Json",
    "Producer",
    "RateLimitError",
    "Revival",
    "UnrecoverableError",
    "WaitingChildrenError",
    "WaitingError",
    "Worker",
    "WorkerOptions",
]
