"""What to do with a job in Redis, decided from its ending: pure but for a custom backoff.

The closed set of moves; finish.py carries them out.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, assert_never

from campaign_worker.queue.backoff import backoff_delay
from campaign_worker.queue.control import (
    MOVED,
    RATE_LIMIT,
    RATE_LIMIT_MESSAGE,
    UNRECOVERABLE,
    is_named,
)
from campaign_worker.queue.endings import Completed, Deferred, Ending, Failed, HandedBack
from campaign_worker.queue.jobopts import bounded
from campaign_worker.queue.jsonvalue import clean_text, to_json

if TYPE_CHECKING:
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.options import WorkerOptions


# Made once per job: a tuple costs half of what a frozen dataclass does.
class Complete(NamedTuple):
    """To completed, with a result."""

    value: Any
    value_json: str


@dataclass(frozen=True, slots=True)
class Fail:
    """To failed, for good. `fields` is a flat list of hash fields."""

    error: BaseException
    reason: str
    fields: list[str]


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The attempt failed and is counted; another one after `delay_ms` (0: at once)."""

    error: BaseException
    reason: str
    fields: list[str]
    delay_ms: int


@dataclass(frozen=True, slots=True)
class PutOff:
    """To delayed until `until_ms`, no attempt counted."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """To the head of wait, nothing counted. `limited`: because the queue is rate limited."""

    reason: str
    limited: bool = False


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """The processor has moved the job itself."""


Move: TypeAlias = Complete | Fail | TryAgain | PutOff | GiveBack | LeaveAlone


def outcome_of(move: Move) -> str:
    """Name what has become of a job, as metrics and logs have it."""
    match move:
        case Complete():
            return "completed"
        case Fail():
            return "failed"
        case TryAgain():
            return "retried"
        case PutOff() | LeaveAlone():
            return "deferred"
        case GiveBack():
            return "handed back"
        case _:
            assert_never(move)


async def decide(ending: Ending, job: Job, options: WorkerOptions) -> Move:
    """Choose the move for an ending. Never raises; a fault of a backoff strategy fails the job.

    What cannot be written, as a value or a time, is an attempt that failed.
    """
    try:
        match ending:
            case Completed(value):
                return Complete(value, to_json(value))
            case Deferred(until_ms):
                return PutOff(int(until_ms))
            case HandedBack(reason):
                return GiveBack(reason)
            case Failed():
                return await _after_failure(ending, job, options)
            case _:
                assert_never(ending)
    except Exception as fault:  # noqa: BLE001 - a value may have code of its own
        return await _after_failure(Failed(fault), job, options)


async def _after_failure(ending: Failed, job: Job, options: WorkerOptions) -> Move:
    error = ending.error
    if is_named(error, *MOVED):
        return LeaveAlone()
    reason = _text(error)
    if is_named(error, RATE_LIMIT) or reason == RATE_LIMIT_MESSAGE:
        return GiveBack("rate limited", limited=True)
    fields = ["failedReason", reason, "stacktrace", to_json(_traces(job, error))]
    if ending.retry and ending.delay_ms is not None:
        return TryAgain(error, reason, fields, max(0, ending.delay_ms))
    if not ending.retry or not _may_retry(job, error, options):
        return Fail(error, reason, fields)
    try:
        delay_ms = await backoff_delay(job, error, options.backoff_strategy)
    except Exception as fault:  # noqa: BLE001 - a strategy is foreign code
        fault.__context__ = error
        return await _after_failure(Failed(fault, retry=False), job, options)
    if delay_ms is None:
        return Fail(error, reason, fields)
    return TryAgain(error, reason, fields, delay_ms)


def _text(error: BaseException) -> str:
    try:
        return clean_text(str(error))
    except Exception:  # noqa: BLE001 - an error of foreign code may not even say what it is
        return type(error).__name__


def _may_retry(job: Job, error: BaseException, options: WorkerOptions) -> bool:
    started_out = (
        bool(options.max_started_attempts)
        and (options.max_started_attempts or 0) <= job.attempts_started
    )
    left = job.attempts_made + 1 < job.attempts
    return left and not started_out and not is_named(error, UNRECOVERABLE)


def _traces(job: Job, error: BaseException) -> list[str]:
    limit = job.opts.get("stackTraceLimit")
    if limit == 0:
        return []
    traces = [*job.stacktrace, clean_text("".join(traceback.format_exception(error)))]
    return traces[-int(bounded(limit)) :] if isinstance(limit, int | float) else traces
