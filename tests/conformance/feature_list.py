"""The rows of the table in docs/conformance.md, in its order."""

from __future__ import annotations

from tests.conformance.features import Feature, Lacking

FEATURES = {
    "complete; return values of any JSON form": Feature(("completes", "values")),
    "attempts, backoff fixed and exponential, order of retries": Feature(("fails-*",)),
    "backoff of the app's own": Feature(("own-backoff*",)),
    "`UnrecoverableError`": Feature(("gives-up",)),
    "`maxStartedAttempts`": Feature(("started-out*",)),
    "stack traces and their limit": Feature(("no-stacktraces", "one-stacktrace")),
    "`removeOnComplete`, `removeOnFail`, of jobs and of workers": Feature(
        ("removed-when-*", "keeps-one-*", "keeps-by-*", "worker-keeps-*")
    ),
    "delayed jobs": Feature(("delayed",)),
    "priorities and LIFO": Feature(("prioritized",)),
    "progress, logs, `updateData`": Feature(("reports", "progress", "clears-logs")),
    "`moveToDelayed`, `DelayedError`": Feature(("later",)),
    "`moveToWait`, `WaitingError`": Feature(("waits", "waits-prioritized")),
    "stalled jobs": Feature(("stalled", "stalled-*")),
    "metrics": Feature(("metrics",)),
    "telemetry metadata of the app": Feature(("telemetry",)),
    "deduplication": Feature(("deduplicated*", "keeps-last-*", "lets-others-in"), since=5),
    "flows": Feature(
        ("flow*", "no-parent-to-leave"),
        lacking=(Lacking("flow-continues*", 5, "`continueParentOnFailure`"),),
    ),
    "children added while the parent runs, `WaitingChildrenError`": Feature(
        ("waits-for-*", "completes-before-its-child", "completes-after-*", "drops-its-children")
    ),
    "rate limit of the worker": Feature(
        ("limited", "limited-to-*", "limited-with-*", "limited-prioritized")
    ),
    "global rate limit": Feature(("limited-for-all-workers",), since=5),
    "`rateLimit`, `RateLimitError`": Feature(("limited-by-*",)),
    "global concurrency": Feature(("one-at-a-time*",), since=5),
    "job schedulers: `every`": Feature(("every*", "scheduled-and-stalled"), since=5),
    "job schedulers: cron patterns": Feature(("cron*",), since=5),
    "repeatable jobs of the old kind": Feature(("repeatable-*",)),
    "a job's questions to its queue": Feature(("asks",)),
    "`changeDelay`, `promote`, `changePriority`, `remove`": Feature(
        ("moves-its-delay", "promotes-*", "moves-itself-up*", "removes-itself")
    ),
    "`Job.retry`": Feature(("retried-by-*",)),
    "`extendLock`, `extendJobLocks`": Feature(("extends-locks",)),
    "dashboard (bull-board): jobs, logs, workers, retry": Feature(since=5),
    "dashboard (bull-board): pause, resume, empty, remove, retry and promote all": Feature(since=5),
}
