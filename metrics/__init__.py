"""Numbers about the worker: event records, listeners, Prometheus, exposition.

A leaf library: it knows prometheus-client and nothing of the product.
"""

from metrics.events import (
    BatchFlushed,
    ClaimPolled,
    Event,
    IntakeHeld,
    JobClaimed,
    JobEnded,
    JobHandedBack,
    JobLost,
    JobsAtStop,
    LockRenewal,
    LoopLagged,
    MailSent,
    QueueDepth,
    RowsReconciled,
    ShutdownPhaseEnded,
    SmtpConnected,
    StalledRecovered,
    UnknownJob,
    WorkerStateChanged,
    WorkerStateName,
)
from metrics.exposition import Exposition, process_registry
from metrics.listener import Fanout, Listener
from metrics.prometheus import PrometheusListener

__all__ = [
    "BatchFlushed",
    "ClaimPolled",
    "Event",
    "Exposition",
    "Fanout",
    "IntakeHeld",
    "JobClaimed",
    "JobEnded",
    "JobHandedBack",
    "JobLost",
    "JobsAtStop",
    "Listener",
    "LockRenewal",
    "LoopLagged",
    "MailSent",
    "PrometheusListener",
    "QueueDepth",
    "RowsReconciled",
    "ShutdownPhaseEnded",
    "SmtpConnected",
    "StalledRecovered",
    "UnknownJob",
    "WorkerStateChanged",
    "WorkerStateName",
    "process_registry",
]
