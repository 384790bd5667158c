"""What can be counted, as frozen records. Holds no address, subject or message text, ever.

Durations are seconds. Strings become labels: they are names from a small set (a queue, a reason),
never data of a recipient. Job names are foreign; the listener bounds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

WorkerStateName: TypeAlias = Literal["starting", "ready", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class JobClaimed:
    """A job became active here. Exactly one JobEnded follows, whatever becomes of the job."""

    queue: str
    name: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A claimed job left this worker: completed, failed, retried, deferred, handed back, lost."""

    queue: str
    name: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobHandedBack:
    """A job went back to the head of its queue, without an attempt. Comes beside its JobEnded."""

    queue: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobLost:
    """The lock of an active job is somebody else's, or gone. Comes beside its JobEnded."""

    queue: str


@dataclass(frozen=True, slots=True)
class StalledRecovered:
    """Jobs whose worker had vanished were put back by our sweep."""

    queue: str
    count: int


@dataclass(frozen=True, slots=True)
class UnknownJob:
    """A job that no contract names; it was parked or failed, as the settings say."""

    queue: str
    name: str


@dataclass(frozen=True, slots=True)
class LockRenewal:
    """One lock renewal; `result` is ok, refused or error."""

    queue: str
    result: str


@dataclass(frozen=True, slots=True)
class ClaimPolled:
    """Redis answered a claim, with a job or without; `at` is Unix time in seconds."""

    queue: str
    at: float


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many jobs stand in one BullMQ state now."""

    queue: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class IntakeHeld:
    """Intake is held for a reason, or no longer held for it."""

    reason: str
    held: bool


@dataclass(frozen=True, slots=True)
class MailSent:
    """A mail transaction is over; `result` is accepted, refused, lost and the like."""

    transport: str
    result: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SmtpConnected:
    """An attempt to connect is over, greeting, TLS and authentication included."""

    transport: str
    seconds: float
    result: str


@dataclass(frozen=True, slots=True)
class WebhookReceived:
    """A provider's webhook was answered; `result` is applied, known, ignored, forged and the like.

    `provider` is that of the route, or "unknown".
    """

    provider: str
    result: str


@dataclass(frozen=True, slots=True)
class BatchFlushed:
    """A batched statement is over; `size` is its number of rows."""

    statement: str
    size: int
    seconds: float
    result: str


@dataclass(frozen=True, slots=True)
class RowsReconciled:
    """The reconciler changed rows; `kind` says what it found (expired lease, due without a job)."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class WorkerStateChanged:
    """The worker is in this state from now on."""

    state: WorkerStateName


@dataclass(frozen=True, slots=True)
class ShutdownPhaseEnded:
    """A phase of the shutdown plan is over; `result` is done, timed_out or failed."""

    phase: str
    seconds: float
    result: str


@dataclass(frozen=True, slots=True)
class JobsAtStop:
    """What became of jobs since the stop began, as of now.

    A job whose mail is in doubt is also counted by how its job ended.
    """

    finished: int
    handed_back: int
    in_doubt: int
    abandoned: int


@dataclass(frozen=True, slots=True)
class LoopLagged:
    """How much later than asked for the event loop woke a sleeper."""

    seconds: float


@dataclass(frozen=True, slots=True)
class TrackingAnswered:
    """Requests of one batch were answered; `counts` is by kind and class of the visitor.

    `result` says where their events were: postgres, stream, or unsecured. `seconds` are those that
    the first of them waited.
    """

    result: str
    seconds: float
    counts: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class TrackingRefused:
    """A request was not recorded; `reason` is invalid_token, limited, unknown_link and the like."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrackingDropped:
    """Events that nothing could secure were given up."""

    stream: str
    count: int


@dataclass(frozen=True, slots=True)
class TrackingDrained:
    """Events of the stream were given to Postgres."""

    stream: str
    count: int


JobEvent: TypeAlias = (
    JobClaimed | JobEnded | JobHandedBack | JobLost | StalledRecovered | UnknownJob
)
QueueEvent: TypeAlias = LockRenewal | ClaimPolled | QueueDepth | IntakeHeld
MailEvent: TypeAlias = MailSent | SmtpConnected | WebhookReceived
StorageEvent: TypeAlias = BatchFlushed | RowsReconciled
WorkerEvent: TypeAlias = WorkerStateChanged | ShutdownPhaseEnded | JobsAtStop | LoopLagged
TrackingMetric: TypeAlias = TrackingAnswered | TrackingRefused | TrackingDropped | TrackingDrained
Event: TypeAlias = JobEvent | QueueEvent | MailEvent | StorageEvent | WorkerEvent | TrackingMetric
