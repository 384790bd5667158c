"""Node's names of what a worker and a job can do: the same things here, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from campaign_worker.errors import UnsupportedOption

WORKER = {
    "cancelAllJobs": "cancel_all_jobs",
    "cancelJob": "cancel_job",
    "extendJobLocks": "extend_job_locks",
    "getNextJob": "get_next_job",
    "isPaused": "is_paused",
    "isRunning": "is_running",
    "nextJobFromJobData": "next_job_from_job_data",
    "opts": "options",
    "rateLimit": "rate_limit",
    "startStalledCheckTimer": "start_stalled_check_timer",
    "waitUntilReady": "wait_until_ready",
}
JOB = {
    "attemptsMade": "attempts_made",
    "attemptsStarted": "attempts_started",
    "changeDelay": "change_delay",
    "changePriority": "change_priority",
    "clearLogs": "clear_logs",
    "deduplicationId": "deduplication_id",
    "deferredFailure": "deferred_failure",
    "extendLock": "extend_lock",
    "failedReason": "failed_reason",
    "finishedOn": "finished_on",
    "getChildrenValues": "get_children_values",
    "getDependencies": "get_dependencies",
    "getDependenciesCount": "get_dependencies_count",
    "getFailedChildrenValues": "get_ignored_children_failures",
    "getIgnoredChildrenFailures": "get_ignored_children_failures",
    "getState": "get_state",
    "isActive": "is_active",
    "isCompleted": "is_completed",
    "isDelayed": "is_delayed",
    "isFailed": "is_failed",
    "isWaiting": "is_waiting",
    "isWaitingChildren": "is_waiting_children",
    "moveToCompleted": "move_to_completed",
    "moveToDelayed": "move_to_delayed",
    "moveToFailed": "move_to_failed",
    "moveToWait": "move_to_wait",
    "moveToWaitingChildren": "move_to_waiting_children",
    "parentKey": "parent_key",
    "processedBy": "processed_by",
    "processedOn": "processed_on",
    "queueName": "queue_name",
    "removeChildDependency": "remove_child_dependency",
    "removeDeduplicationKey": "remove_deduplication_key",
    "removeUnprocessedChildren": "remove_unprocessed_children",
    "repeatJobKey": "repeat_job_key",
    "returnvalue": "return_value",
    "stalledCounter": "stalled_counter",
    "updateData": "update_data",
    "updateProgress": "update_progress",
}
#: What Node's classes can do and these cannot, and why.
WORKER_LACKS: Mapping[str, str] = {
    "jobScheduler": "schedulers are made by producers; their next iterations are produced here",
}
JOB_LACKS = {
    "discard": "BullMQ has removed it; raise UnrecoverableError",
    "waitUntilFinished": "it waits on QueueEvents, which producers have and workers have not",
}


def resolve(
    owner: object, name: str, aliases: Mapping[str, str], lacking: Mapping[str, str]
) -> object:
    """Return what Node calls `name`; AttributeError for a name that Node does not know either.

    What is lacking is a function that raises errors.UnsupportedOption when it is called.
    """
    kind = type(owner).__name__
    if name in lacking:
        return _refusal(f"{kind}.{name}", lacking[name])
    if name not in aliases:
        raise AttributeError(f"{kind} has no attribute {name!r}")
    return getattr(owner, aliases[name])


def _refusal(what: str, why: str) -> Callable[..., NoReturn]:
    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        raise UnsupportedOption(what, why)

    return refuse
