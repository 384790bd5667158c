"""The outcomes of one job's mail: a closed set, each with exactly one ending of the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from campaign_worker.delivery.settlements import (
    Ending,
    FailReason,
    MarkFailed,
    MarkInDoubt,
    MarkReleased,
    MarkRetry,
    MarkSent,
    NextStep,
)


@dataclass(frozen=True, slots=True)
class Sent:
    """The mail was accepted, now or by an earlier run of this job.

    `next_step` is the follow-up whose row the settle has made, and whose job is still to be added.
    """

    message_id: str | None
    next_step: NextStep | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A guard said no: the row is final."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Later, and no attempt is spent: rate limit, pause, throttle, not due."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Busy:
    """Another token's lease is live."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Shutdown, a lost lock, or something of ours that is away: the row is released."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Permanent: the row failed and the job is not retried."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Transient: an attempt is spent. `seconds` is the delay; exhausted rows are not retried."""

    detail: str
    seconds: float
    exhausted: bool


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Sent or not, nobody can tell. `resend`: the row is scheduled again, by the policy."""

    detail: str
    resend: bool


Outcome = Sent | Skipped | Deferred | Busy | Interrupted | Rejected | Failed | InDoubt


def of_ending(ending: Ending, next_step: NextStep | None) -> Outcome:
    """Say what a row's ending means for its job."""
    match ending:
        case MarkSent(message_id):
            return Sent(message_id, next_step)
        case MarkFailed(FailReason.EXHAUSTED, detail):
            return Failed(detail, 0.0, exhausted=True)
        case MarkFailed(reason, detail):
            return Rejected(reason.value, detail)
        case MarkRetry(detail, seconds):
            return Failed(detail, seconds, exhausted=False)
        case MarkReleased(detail, 0.0):
            return Interrupted(detail)
        case MarkReleased(detail, seconds):
            return Deferred(detail, seconds)
        case MarkInDoubt(_, detail, resend):
            return InDoubt(detail, resend=resend)
        case _:
            assert_never(ending)
