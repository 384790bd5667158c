"""A worker's options: Node's names in, one checked frozen value out.

An option that is not honoured is refused by name, never accepted and ignored.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campaign_worker.errors import SettingsError, UnsupportedOption
from campaign_worker.queue.connection import ConnectionSpec
from campaign_worker.queue.jobopts import bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from campaign_worker.queue.iterations import RepeatStrategy
    from campaign_worker.queue.job import Job

    BackoffStrategy = Callable[[int, str, BaseException, Job], float | Awaitable[float] | None]

#: Node's own names, and the fields that hold them.
_FIELDS = {
    "concurrency": "concurrency",
    "lockDuration": "lock_duration_ms",
    "lockRenewTime": "lock_renew_time_ms",
    "stalledInterval": "stalled_interval_ms",
    "maxStalledCount": "max_stalled_count",
    "ignoreStallLimit": "ignore_stall_limit",
    "maxStartedAttempts": "max_started_attempts",
    "skipStalledCheck": "skip_stalled_check",
    "skipLockRenewal": "skip_lock_renewal",
    "jobTimeout": "job_timeout_ms",
    "drainDelay": "drain_delay_seconds",
    "maximumRateLimitDelay": "maximum_rate_limit_delay_ms",
    "name": "name",
    "autorun": "autorun",
    "prefix": "prefix",
}
_STRATEGIES = {"backoffStrategy": "backoff_strategy", "repeatStrategy": "repeat_strategy"}
#: Options whose listed values ask for what is done anyway.
_GRANTED: dict[str, tuple[object, ...]] = {
    "useWorkerThreads": (False, None),
    "skipWaitingForReady": (False, True, None),
    "telemetry": (None,),
    "skipVersionCheck": (False, None),
}


_SANDBOX = "processors run in this process, as async functions: there are no sandboxes"
#: Why an option of Node's Worker is not honoured.
_REASONS = {
    "runRetryDelay": "nothing waits for it: connections come back within a second of Redis",
    "telemetry": "it takes a JavaScript interface; a job's own telemetry is handed on untouched",
    "useWorkerThreads": _SANDBOX,
    "workerForkOptions": _SANDBOX,
    "workerThreadsOptions": _SANDBOX,
}


@dataclass(frozen=True, slots=True)
class Limiter:
    """At most `max` jobs in `duration` milliseconds, over all workers of the queue."""

    max: int
    duration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Everything a worker can be told. Defaults are Node's (bullmq 6.7, worker-options.ts).

    `keep_completed` and `keep_failed` are BullMQ's `{count, age, limit}`; None keeps everything.
    `ignore_stall_limit`, which Node has not: jobs that stalled more often than allowed run all the
    same, because somebody else counts their deaths.
    `job_timeout_ms`, ours too: how long a processor may take (timeout.py); None sets no limit.
    `max_metrics_points` is `metrics.maxDataPoints`; None collects none.
    """

    concurrency: int = 1
    lock_duration_ms: int = 30_000
    lock_renew_time_ms: int = 15_000
    stalled_interval_ms: int = 30_000
    max_stalled_count: int = 1
    ignore_stall_limit: bool = False
    max_started_attempts: int | None = None
    skip_stalled_check: bool = False
    skip_lock_renewal: bool = False
    job_timeout_ms: int | None = None
    drain_delay_seconds: float = 5
    maximum_rate_limit_delay_ms: int = 30_000
    keep_completed: Mapping[str, float] | None = None
    keep_failed: Mapping[str, float] | None = None
    limiter: Limiter | None = None
    backoff_strategy: BackoffStrategy | None = None
    repeat_strategy: RepeatStrategy | None = None
    max_metrics_points: int | None = None
    name: str | None = None
    autorun: bool = True
    prefix: str = "bull"
    connection: ConnectionSpec = field(default_factory=ConnectionSpec)

    def __post_init__(self) -> None:
        for name in (
            "concurrency",
            "lock_duration_ms",
            "lock_renew_time_ms",
            "stalled_interval_ms",
        ):
            _at_least(self, name, 1)
        _at_least(self, "max_stalled_count", 0)
        if self.max_started_attempts is not None:
            _at_least(self, "max_started_attempts", 0)
        if self.job_timeout_ms is not None:
            _at_least(self, "job_timeout_ms", 1)
        if not self.drain_delay_seconds > 0:
            raise SettingsError("drainDelay", "must be greater than 0")
        if self.lock_renew_time_ms > self.lock_duration_ms:
            raise SettingsError("lockRenewTime", "must not exceed lockDuration")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | WorkerOptions | None) -> WorkerOptions:
        """Read Node's option names.

        Raises UnsupportedOption naming the first option that is not honoured, and SettingsError
        naming the first wrong value.
        """
        if isinstance(options, WorkerOptions):
            return options
        given = dict(options or {})
        values: dict[str, Any] = {}
        for option, attribute in _FIELDS.items():
            if (value := given.pop(option, None)) is not None:
                values[attribute] = value
        if "lock_duration_ms" in values and "lock_renew_time_ms" not in values:
            values["lock_renew_time_ms"] = max(1, int(values["lock_duration_ms"]) // 2)
        values["connection"] = ConnectionSpec.of(given.pop("connection", None))
        values["keep_completed"] = keep_jobs(given.pop("removeOnComplete", None))
        values["keep_failed"] = keep_jobs(given.pop("removeOnFail", None))
        values["limiter"] = _limiter(given.pop("limiter", None))
        values["max_metrics_points"] = _metrics(given.pop("metrics", None))
        values |= _settings(given.pop("settings", None))
        for option, value in given.items():
            if value not in _GRANTED.get(option, ()):
                raise UnsupportedOption(
                    option, _REASONS.get(option, "this worker does not honour it")
                )
        return cls(**values)


def check_processor(processor: object) -> None:
    """Refuse what is no function: UnsupportedOption for a sandbox's file or URL, SettingsError."""
    if isinstance(processor, str | os.PathLike):
        raise UnsupportedOption("processor", _SANDBOX)
    if processor is not None and not callable(processor):
        raise SettingsError("processor", "must be an async function")


def keep_jobs(value: Any) -> Mapping[str, float] | None:
    """Normalise removeOnComplete/removeOnFail to `{count, age, limit}`; None when unset.

    True removes at once, False keeps all, a number keeps that many (BullMQ: getKeepJobs).
    """
    match value:
        case None:
            return None
        case bool():
            return {"count": 0 if value else -1}
        case int() | float():
            return {"count": int(bounded(value))}
        case dict():
            given = {name: value[name] for name in ("count", "age", "limit") if name in value}
            return {n: bounded(v) if isinstance(v, int | float) else v for n, v in given.items()}
        case _:
            raise SettingsError("removeOnComplete/removeOnFail", "must be a bool, number or object")


def _limiter(value: Any) -> Limiter | None:
    if value is None:
        return None
    match value:
        case {"max": int(limit), "duration": int() | float() as duration, **rest} if not rest:
            if limit < 1 or not duration > 0:
                raise SettingsError("limiter", "max and duration must be greater than 0")
            return Limiter(limit, max(1, math.floor(duration)))
        case _:
            raise SettingsError("limiter", "must be {max, duration}")


def _metrics(value: Any) -> int | None:
    match value:
        case None | {"maxDataPoints": None | 0}:
            return None
        case {"maxDataPoints": int(points), **rest} if not rest:
            return points
        case _:
            raise SettingsError("metrics", "must be {maxDataPoints}")


def _settings(value: Any) -> dict[str, Any]:
    settings = dict(value or {})
    strategies = {attribute: settings.pop(name, None) for name, attribute in _STRATEGIES.items()}
    for name in settings:
        raise UnsupportedOption(f"settings.{name}", "this worker does not honour it")
    for name, attribute in _STRATEGIES.items():
        if strategies[attribute] is not None and not callable(strategies[attribute]):
            raise SettingsError(f"settings.{name}", "must be a function")
    return strategies


def _at_least(options: WorkerOptions, attribute: str, least: int) -> None:
    value = getattr(options, attribute)
    option = next(name for name, held in _FIELDS.items() if held == attribute)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingsError(option, f"must be a whole number of at least {least}")
