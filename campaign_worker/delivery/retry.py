"""When a mail is tried again: pure arithmetic over attempts, backoff, hints and the floor."""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST_SECONDS = 31_622_400.0
"""A year: a backoff that a job asks for may be any number."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`floor_seconds`: nothing is retried sooner, or greylisting would eat the attempts."""

    floor_seconds: float = 60.0
    resend_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt under way, as its job counts: `limit` is opts.attempts (at least 1)."""

    limit: int
    backoff_seconds: float


def delay_seconds(policy: RetryPolicy, attempt: Attempt, hint_seconds: float | None) -> float:
    """Return the largest of the job's backoff, the server's hint and the floor; at most a year."""
    wanted = max(policy.floor_seconds, hint_seconds or 0.0, attempt.backoff_seconds)
    return min(wanted, _LONGEST_SECONDS)


def is_last(attempt: Attempt, spent_before: int) -> bool:
    """Whether no attempt is left after this one; the row counts, not the job."""
    return spent_before + 1 >= attempt.limit
