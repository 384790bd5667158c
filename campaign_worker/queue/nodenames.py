"""Node's names of what a worker and a job can do: the same things here, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from campaign_worker.errors import UnsupportedOption

WORKER = {
    "cancelAllJobs": "cancel_all_jobs",
    "cancelJob": "cancel_job",
    "getNextJob": "get_next_job",
    "isPaused": "is_paused",
    "isRunning": "is_running",
    "nextJobFromJobData": "next_job_from_job_data",
    "opts": "options",
    "startStalledCheckTimer": "start_stalled_check_timer",
    "waitUntilReady": "wait_until_ready",
}
JOB = {
    "attemptsMade": "attempts_made",
    "attemptsStarted": "attempts_started",
    "deferredFailure": "deferred_failure",
    "extendLock": "extend_lock",
    "failedReason": "failed_reason",
    "finishedOn": "finished_on",
    "moveToCompleted": "move_to_completed",
    "moveToDelayed": "move_to_delayed",
    "moveToFailed": "move_to_failed",
    "moveToWait": "move_to_wait",
    "parentKey": "parent_key",
    "processedBy": "processed_by",
    "processedOn": "processed_on",
    "queueName": "queue_name",
    "repeatJobKey": "repeat_job_key",
    "returnvalue": "return_value",
    "stalledCounter": "stalled_counter",
    "updateData": "update_data",
    "updateProgress": "update_progress",
}
#: What Node's classes can do and these cannot (yet).
WORKER_LACKS = frozenset({"rateLimit", "extendJobLocks"})
JOB_LACKS = frozenset(
    {"moveToWaitingChildren", "getChildrenValues", "getDependencies", "getDependenciesCount"}
    | {"changeDelay", "changePriority", "clearLogs", "discard", "getState", "promote", "remove"}
    | {"removeChildDependency", "removeDeduplicationKey", "retry", "waitUntilFinished"}
)


def resolve(
    owner: object, name: str, aliases: Mapping[str, str], lacking: frozenset[str]
) -> object:
    """Return what Node calls `name`; AttributeError for a name that Node does not know either.

    What is lacking is a function that raises errors.UnsupportedOption when it is called.
    """
    kind = type(owner).__name__
    if name in lacking:
        return _refusal(f"{kind}.{name}")
    if name not in aliases:
        raise AttributeError(f"{kind} has no attribute {name!r}")
    return getattr(owner, aliases[name])


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        raise UnsupportedOption(what, "this worker cannot do it")

    return refuse
