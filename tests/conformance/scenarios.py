"""Jobs that a Node Worker and ours run alike: by queue, what the app does and what the worker is.

The words of a plan are explained by plans.py, and done by worker.mjs in Node.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.conformance.harness import job

FIXED = {"type": "fixed", "delay": 30}
EXPONENTIAL = {"type": "exponential", "delay": 20}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """`jobs` as the app adds them before a worker is there; `ends`: how many end, however.

    With `children` the only job is their parent. `stalled`: the first one is active already, of a
    worker that has died. `first`: calls of app.mjs before all that, without the queue's name;
    `{"$in": ms}` in them is a time from now. `during`: jobs that the app adds while the first one
    is active, which is told afterwards. `fields`: what the first job's hash holds besides.
    """

    jobs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    ends: int = 1
    worker: dict[str, Any] = dataclasses.field(default_factory=dict)
    children: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stalled: bool = False
    first: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    during: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    fields: dict[str, str] = dataclasses.field(default_factory=dict)


def planned(*plan: str, **opts: Any) -> dict[str, Any]:
    """Describe a job that does these things, one at each attempt."""
    return job({"plan": list(plan)}, **opts)


JOBS = {
    "completes": Scenario([planned("complete"), planned("nothing")], 2),
    "fails-once": Scenario([planned("fail", "complete", attempts=3, backoff=FIXED)]),
    "fails-once-no-backoff": Scenario([planned("fail", "complete", attempts=2)]),
    "fails-once-lifo": Scenario([planned("fail", "complete", attempts=2, lifo=True)]),
    "fails-once-prioritized": Scenario([planned("fail", "complete", attempts=2, priority=4)]),
    "fails-for-good": Scenario([planned("fail", attempts=3, backoff=EXPONENTIAL)]),
    "fails-without-attempts": Scenario([planned("fail")]),
    "gives-up": Scenario([planned("give up", attempts=3, backoff=FIXED)]),
    "no-stacktraces": Scenario([planned("fail", attempts=2, stackTraceLimit=0)]),
    "one-stacktrace": Scenario([planned("fail", attempts=3, stackTraceLimit=1)]),
    "removed-when-complete": Scenario([planned("complete", removeOnComplete=True)] * 2, 2),
    "keeps-one-complete": Scenario([planned("complete", removeOnComplete=1)] * 3, 3),
    "keeps-by-age": Scenario(
        [planned("complete", removeOnComplete={"age": 60, "count": 2})] * 3, 3
    ),
    "removed-when-failed": Scenario([planned("fail", removeOnFail=True)]),
    "keeps-one-failed": Scenario([planned("fail", removeOnFail=1)] * 2, 2),
    "worker-keeps-one": Scenario(
        [planned("complete"), planned("complete"), planned("fail"), planned("fail")],
        4,
        {"removeOnComplete": {"count": 1}, "removeOnFail": {"count": 1}},
    ),
    "delayed": Scenario([planned("complete", delay=60)]),
    "prioritized": Scenario(
        [planned("complete", priority=priority) for priority in (3, 1, 2)]
        + [planned("complete"), planned("complete", lifo=True)],
        5,
    ),
    "reports": Scenario([planned("report", keepLogs=5)]),
    "progress": Scenario([planned("progress")]),
    "values": Scenario([planned("values"), planned("text"), planned("false")], 3),
    "waits": Scenario([planned("wait", "complete")]),
    "waits-prioritized": Scenario([planned("wait", "complete", priority=4)]),
    "own-backoff": Scenario([planned("fail", attempts=9, backoff={"type": "own"})]),
    "started-out": Scenario([planned("fail", attempts=3)], worker={"maxStartedAttempts": 1}),
    "stalled": Scenario([planned("complete")], stalled=True),
    "stalled-too-often": Scenario(
        [planned("complete", attempts=3)], worker={"maxStalledCount": 0}, stalled=True
    ),
    "keeps-by-limit": Scenario(
        [planned("complete", removeOnComplete={"age": 60, "count": 3, "limit": 1})] * 5, 5
    ),
    "keeps-by-age-of-0": Scenario([planned("fail", removeOnFail={"age": 0})] * 2, 2),
    "later": Scenario([planned("later", "complete")]),
    "deduplicated": Scenario([planned("complete", deduplication={"id": "one"})]),
    "flow": Scenario(
        [planned("complete", jobId="parent")],
        3,
        children=[
            planned("complete", jobId="good"),
            planned("fail", jobId="bad", ignoreDependencyOnFailure=True),
        ],
    ),
    "flow-fails": Scenario(
        [planned("complete", jobId="parent")],
        2,
        children=[planned("fail", jobId="bad", failParentOnFailure=True)],
    ),
    "metrics": Scenario(
        [planned("complete"), planned("fail")], 2, {"metrics": {"maxDataPoints": 10}}
    ),
}

CALLS = {
    "asks": Scenario([planned("ask")]),
    "extends-locks": Scenario([planned("extend")]),
    "clears-logs": Scenario([planned("clear logs")]),
    "moves-its-delay": Scenario([planned("move delay", "complete")]),
    "promotes-itself": Scenario([planned("promote", "complete")]),
    "promotes-itself-prioritized": Scenario([planned("promote", "complete", priority=3)]),
    "moves-itself-up": Scenario([planned("move up", "complete")]),
    "moves-itself-up-prioritized": Scenario([planned("move up", "complete", priority=3)]),
    "removes-itself": Scenario([planned("remove")]),
    "retried-by-a-listener": Scenario([planned("for now", "complete")], 2),
    "retried-by-a-listener-lifo": Scenario([planned("for now", "complete", lifo=True)], 2),
    "retried-by-a-listener-prioritized": Scenario([planned("for now", "complete", priority=2)], 2),
    "telemetry": Scenario(
        [
            planned("options", keepLogs=3, telemetry={"metadata": "span", "omitContext": True}),
            planned("fail", "options", attempts=2, telemetry={"metadata": "span"}),
        ],
        2,
    ),
}


def family(
    *children: dict[str, Any],
    parent: dict[str, Any] | None = None,
    ends: int | None = None,
    **more: Any,
) -> Scenario:
    """Describe a flow; all of it ends unless told otherwise."""
    above = parent or planned("ask", jobId="parent")
    return Scenario(
        [above], len(children) + 1 if ends is None else ends, children=[*children], **more
    )


POLICIES = {
    "fails": "failParentOnFailure",
    "continues": "continueParentOnFailure",
    "ignores": "ignoreDependencyOnFailure",
    "removes": "removeDependencyOnFailure",
}
GOOD = planned("complete", jobId="good")
OF_PARENT = {"id": "parent", "queue": "$queue"}
KID = planned("complete", jobId="kid", parent=OF_PARENT)
FLOWS = {
    **{
        f"flow-{name}-parent": family(planned("fail", jobId="bad", **{policy: True}), GOOD)
        for name, policy in POLICIES.items()
    },
    **{
        f"flow-{name}-parent-of-a-removed-child": family(
            planned("fail", jobId="bad", removeOnFail=True, **{policy: True})
        )
        for name, policy in POLICIES.items()
    },
    **{
        f"flow-{name}-parent-of-a-stalled-child": family(
            planned("complete", jobId="bad", **{policy: True}),
            worker={"maxStalledCount": 0},
            stalled=True,
        )
        for name, policy in POLICIES.items()
    },
    **{
        f"flow-{name}-parent-after-retries": family(
            planned("fail", jobId="bad", attempts=2, **{policy: True})
        )
        for name, policy in POLICIES.items()
    },
    "flow-keeps-parent-waiting": family(planned("fail", jobId="bad"), ends=1),
    "flow-child-retried-by-a-listener": family(planned("for now", "complete", jobId="kid"), ends=3),
    "flow-fails-grandparent": family(
        {
            **planned("complete", jobId="parent", failParentOnFailure=True),
            "children": [planned("fail", jobId="bad", failParentOnFailure=True)],
        },
        parent=planned("complete", jobId="grandparent"),
        ends=3,
    ),
    "flow-ignores-grandchild": family(
        {
            **planned("complete", jobId="parent", ignoreDependencyOnFailure=True),
            "children": [planned("fail", jobId="bad", failParentOnFailure=True)],
        },
        parent=planned("ask", jobId="grandparent"),
        ends=3,
    ),
    "flow-two-fail": family(
        *(planned("fail", jobId=name, failParentOnFailure=True) for name in ("bad", "worse"))
    ),
    "flow-continues-at-once": family(
        planned("fail", jobId="bad", continueParentOnFailure=True),
        planned("complete", jobId="late", delay=60_000),
        parent=planned("drop children", jobId="parent"),
    ),
    "flow-child-removed": family(planned("complete", jobId="kid", removeOnComplete=True)),
    "flow-parent-removed": family(GOOD, parent=planned("ask", jobId="p", removeOnComplete=True)),
    "flow-parent-delayed": family(GOOD, parent=planned("ask", jobId="parent", delay=60)),
    "flow-parent-prioritized": family(GOOD, parent=planned("ask", jobId="parent", priority=5)),
    "flow-child-leaves": family(planned("leave parent", jobId="kid")),
    "waits-for-children": Scenario([planned("children", "ask", jobId="parent"), KID], 2),
    "waits-for-one-child": Scenario([planned("one child", "ask", jobId="parent"), KID], 2),
    "waits-for-no-children": Scenario([planned("children")]),
    "waits-for-no-such-child": Scenario([planned("one child")]),
    "completes-before-its-child": Scenario([planned("complete", jobId="parent"), KID], 2),
    "completes-after-a-failed-child": Scenario(
        [
            planned("complete", jobId="parent", attempts=2),
            planned("fail", lifo=True, parent=OF_PARENT, failParentOnFailure=True),
        ],
        2,
    ),
    "waits-for-a-failed-child": Scenario(
        [
            planned("children", jobId="parent", attempts=2),
            planned("fail", lifo=True, parent=OF_PARENT, failParentOnFailure=True),
        ],
        2,
    ),
    "drops-its-children": Scenario(
        [
            planned("drop children", jobId="parent"),
            KID,
            planned("fail", parent=OF_PARENT, delay=9000),
        ],
        3,
    ),
}

# Long against what a job takes on a busy machine, so that no job ends when the limit has.
EACH = {"limiter": {"max": 1, "duration": 250}}
# Only a worker with a limiter, or with one for all in the queue's meta, looks at the queue's limit.
MANY = {"limiter": {"max": 100, "duration": 250}}
LIMITS = {
    "limited": Scenario([planned("complete")] * 3, 3, EACH),
    "limited-to-two": Scenario(
        [planned("complete")] * 3, 3, {"limiter": {"max": 2, "duration": 300}}
    ),
    "limited-prioritized": Scenario([planned("complete", priority=n) for n in (2, 1)], 2, EACH),
    "limited-with-retries": Scenario([planned("fail", "complete", attempts=2)], 1, EACH),
    "limited-for-all-workers": Scenario([planned("complete")] * 3, 3, first=[("limit", 1, 250)]),
    "limited-with-a-delayed-job": Scenario(
        [planned("hold")],
        2,
        {**EACH, "maximumRateLimitDelay": 40},
        during=[planned("complete", delay=60)],
    ),
    "limited-by-a-job": Scenario([planned("limit", "complete"), planned("complete")], 2, MANY),
    "limited-by-a-job-prioritized": Scenario([planned("limit", "complete", priority=4)], 1, MANY),
    "limited-by-a-job-without-limiter": Scenario([planned("limit", "complete")]),
    "limited-by-the-app": Scenario([planned("complete")], 1, MANY, first=[("rest", 80)]),
    "one-at-a-time": Scenario(
        [planned("hold")],
        4,
        {"concurrency": 3},
        first=[("concurrency", 1)],
        during=[planned("complete"), planned("complete", priority=2), planned("complete")],
    ),
    "one-at-a-time-with-retries": Scenario(
        [planned("fail", "complete", attempts=3)] * 2,
        2,
        {"concurrency": 3},
        first=[("concurrency", 1)],
    ),
}

ONE = {"id": "one"}
LAST = {"id": "one", "keepLastIfActive": True}
DEDUPLICATION = {
    "deduplicated-with-ttl": Scenario(
        [planned("complete", deduplication={**ONE, "ttl": 60_000})] * 2
    ),
    "deduplicated-while-delayed": Scenario(
        [planned("complete", deduplication={**ONE, "ttl": 60, "replace": True}, delay=60)] * 2,
        2,
    ),
    "deduplicated-and-extended": Scenario(
        [planned("complete", deduplication={**ONE, "ttl": 50, "extend": True}, delay=30)] * 2
    ),
    "deduplicated-while-active": Scenario(
        [planned("hold", deduplication=ONE)], during=[planned("complete", deduplication=ONE)] * 2
    ),
    "keeps-last-while-active": Scenario(
        [planned("hold", deduplication=LAST)],
        2,
        during=[planned(what, deduplication=LAST) for what in ("text", "ask", "complete")],
    ),
    "keeps-last-of-a-failed-job": Scenario(
        [planned("hold and fail", deduplication=LAST)],
        2,
        during=[planned("complete", deduplication=LAST)],
    ),
    "keeps-last-of-a-retried-job": Scenario(
        [planned("hold and fail", "complete", deduplication=LAST, attempts=2)],
        2,
        during=[planned("complete", deduplication=LAST)],
    ),
    "keeps-last-of-a-removed-job": Scenario(
        [planned("hold", deduplication=LAST, removeOnComplete=True)],
        2,
        during=[planned("complete", deduplication=LAST, removeOnComplete=True)],
    ),
    "lets-others-in": Scenario(
        [planned("let others in", deduplication=ONE), planned("let others in")], 2
    ),
}


def scheduled(
    repeat: dict[str, Any], *plan: str, ends: int, scheduler: str = "often", **opts: Any
) -> Scenario:
    """Describe a job scheduler, which the app makes before there is a worker."""
    template = {"name": "tick", "data": {"plan": list(plan) or ["complete"]}, "opts": opts}
    return Scenario(ends=ends, first=[("schedule", scheduler, repeat, template)])


HOUR = 3_600_000
NEW_YEAR = "0 30 9 1 1 *"
# Begins when the worker is there: a late first job would be followed at once, or not quite.
SOON = {"every": 300, "startDate": {"$in": 1500}}
SCHEDULERS = {
    "every": scheduled({**SOON, "limit": 3}, ends=3),
    "every-goes-on": scheduled({"every": 10 * HOUR}, ends=1),
    "every-with-options": scheduled(
        {**SOON, "limit": 2},
        ends=2,
        removeOnComplete=False,
        priority=3,
        keepLogs=2,
        telemetry={"metadata": "span"},
    ),
    "every-failing": scheduled({**SOON, "limit": 2}, "fail", ends=2),
    "every-retried": scheduled(
        {"every": 10 * HOUR}, "fail", "complete", ends=1, attempts=2, backoff=20
    ),
    "every-with-colons": scheduled(
        {**SOON, "limit": 2}, ends=2, scheduler="mail:daily:12:berlin:5"
    ),
    "every-with-offset": scheduled({**SOON, "offset": 30, "limit": 2}, ends=2),
    "every-at-once": scheduled({"every": 60_000, "limit": 2}, ends=1),
    "every-until-a-date": scheduled({"every": HOUR, "endDate": {"$in": 2 * HOUR}}, ends=1),
    "cron": scheduled({"pattern": "* * * * * *", "immediately": True, "limit": 2}, ends=2),
    "cron-in-a-zone": scheduled(
        {"pattern": NEW_YEAR, "tz": "America/New_York", "immediately": True}, ends=1
    ),
    "cron-in-local-time": scheduled({"pattern": NEW_YEAR, "immediately": True}, ends=1),
    "cron-of-five-fields": scheduled({"pattern": "15 3 L feb *", "immediately": True}, ends=1),
    "cron-until-a-date": scheduled(
        {"pattern": NEW_YEAR, "immediately": True, "endDate": {"$in": 2000}}, ends=1
    ),
    "cron-to-its-limit": scheduled({"pattern": NEW_YEAR, "immediately": True, "limit": 1}, ends=1),
    "scheduled-and-stalled": dataclasses.replace(
        scheduled({"every": HOUR}, ends=1), worker={"maxStalledCount": 0}, stalled=True
    ),
    "repeatable-of-the-old-kind": Scenario(
        [planned("complete")], fields={"rjk": "nightly:::Europe/Berlin:*/5 * * * *"}
    ),
}
#: Two queues of one flow: neither comes to its end without the other.
ACROSS = {
    "parents": family(
        {**planned("complete", jobId="good"), "queueName": "kids"},
        {**planned("fail", jobId="bad", ignoreDependencyOnFailure=True), "queueName": "kids"},
        ends=1,
    ),
    "kids": Scenario(ends=2),
}
GROUPS = {
    "jobs": JOBS,
    "calls": CALLS,
    "flows": FLOWS,
    "limits": LIMITS,
    "deduplication": DEDUPLICATION,
    "schedulers": SCHEDULERS,
}
SCENARIOS = {queue: one for group in GROUPS.values() for queue, one in group.items()}
