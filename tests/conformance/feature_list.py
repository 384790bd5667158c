"""The rows of the table in docs/conformance.md, in its order."""

from __future__ import annotations

from tests.conformance.features import Difference, Feature, Lacking

NO_NEXT_ID = Difference(
    ("/*/repeat:*/content/nrjid",), "`job.nextRepeatableJobId` is not written, as in 6.x"
)
ONE_START_MORE = Difference(
    ("/started-out/*",), "as in 6.x the last start that is allowed decides, in 5.x one more"
)
LOOKS = Difference(
    (), "4.x wakes nobody; ours looks every 0.9 s, a Node Worker every 5 s (`drainDelay`) [2]"
)
KEPT = Difference((), "nothing is lost; a Node Worker of 6.x loses what falls due meanwhile [3]")
UNNAMED = Difference((), "4.x lists unnamed workers only and has no `processedBy` [4]")
COUNTED = Difference((), "counted in `atm`, which 4.x does not read [1]")
FEATURES = {
    "complete; return values of any JSON form": Feature(("completes", "values")),
    "attempts, backoff fixed and exponential, order of retries": Feature(("fails-*",)),
    "backoff of the app's own": Feature(("own-backoff*",)),
    "`UnrecoverableError`": Feature(("gives-up",)),
    "`maxStartedAttempts`": Feature(("started-out*",), differs={5: ONE_START_MORE}),
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
        ("flow*",),
        lacking=(
            Lacking("flow-continues*", 5, "`continueParentOnFailure`"),
            Lacking("flow-ignores*", 5, "`ignoreDependencyOnFailure`"),
            Lacking("flow", 5, "`ignoreDependencyOnFailure`"),
        ),
    ),
    "children added while the parent runs, `WaitingChildrenError`": Feature(
        ("waits-for-*", "completes-before-its-child", "completes-after-*", "drops-its-children")
    ),
    "rate limit of the worker": Feature(
        ("limited", "limited-to-*", "limited-with-*", "limited-prioritized")
    ),
    "global rate limit": Feature(("limited-for-all-workers",), since=5),
    "`rateLimit`, `RateLimitError`": Feature(
        ("limited-by-*",), lacking=(Lacking("limited-by-the-app", 5, "`Queue.rateLimit`"),)
    ),
    "global concurrency": Feature(("one-at-a-time*",), since=5),
    "job schedulers: `every`": Feature(
        ("every*", "scheduled-and-stalled"), since=5, differs={5: NO_NEXT_ID}
    ),
    "job schedulers: cron patterns": Feature(("cron*",), since=5, differs={5: NO_NEXT_ID}),
    "repeatable jobs of the old kind": Feature(("repeatable-*",)),
    "a job's questions to its queue": Feature(("asks",)),
    "`changeDelay`, `promote`, `changePriority`, `remove`": Feature(
        ("moves-its-delay", "promotes-*", "moves-itself-up*", "removes-itself")
    ),
    "`Job.retry`": Feature(("retried-by-*",)),
    "`extendLock`, `extendJobLocks`": Feature(("extends-locks",)),
    "dashboard (bull-board): jobs, logs, workers, retry": Feature(since=5),
    "dashboard (bull-board): pause, resume, empty, remove, retry and promote all": Feature(since=5),
    "dashboard (bull-board): limits, flows, job schedulers": Feature(since=5),
    "idle workers wake at once, delayed jobs are in time": Feature(differs={4: LOOKS}),
    "pause and resume of the queue": Feature(differs={4: KEPT, 5: KEPT}),
    "`Queue.getWorkers`, `processedBy`, after a reconnect too": Feature(differs={4: UNNAMED}),
    "what the app reads of attempts": Feature(differs={4: COUNTED}),
    "`QueueEvents`, `waitUntilFinished`": Feature(),
    "beside Node's Worker on one queue": Feature(),
    "events of the Worker object": Feature(alike=True),
}
