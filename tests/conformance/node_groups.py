"""The groups of BullMQ's own tests, and which of ours stand for each: the second table."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from tests.conformance.scenarios import SCENARIOS

TESTS = Path(__file__).parents[1]
QUEUE = "integration/queue"


@dataclasses.dataclass(frozen=True)
class Group:
    """`tests`: patterns of `file::function` below tests/. `scenarios`: patterns of names.

    `left_out`: cases of Node's that have none here, and why; Markdown.
    """

    tests: tuple[str, ...]
    scenarios: tuple[str, ...] = ()
    left_out: str = ""

    def members(self) -> list[str]:
        """Return the tests that it has."""
        return [name for name in functions() if any(fnmatchcase(name, one) for one in self.tests)]

    def files(self) -> list[str]:
        """Return the files of its tests, each once."""
        return list(dict.fromkeys(name.partition("::")[0] for name in self.members()))

    def count(self) -> int:
        """Count tests and scenarios; a test with several parameters is one."""
        owned = [s for s in SCENARIOS if any(fnmatchcase(s, one) for one in self.scenarios)]
        return len(self.members()) + len(owned)

    def row(self, name: str) -> str:
        """Return its line in the table."""
        links = [f"[{Path(file).stem}](../tests/{file})" for file in self.files()]
        if self.scenarios:
            links.append("[scenarios](../tests/conformance/scenarios.py)")
        return f"| {name} | {self.count()} | {', '.join(links)} | {self.left_out} |"


@cache
def functions() -> tuple[str, ...]:
    """Return all tests of queues, as `file::function`."""
    return tuple(_functions())


def _functions() -> Iterator[str]:
    paths = [
        *sorted((TESTS / "integration" / "queue").glob("test_*.py")),
        *sorted((TESTS / "conformance").glob("test_*.py")),
        *sorted((TESTS / "unit" / "queue").glob("test_*.py")),
    ]
    for path in paths:
        for node in ast.parse(path.read_text()).body:
            is_function = isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
            if is_function and node.name.startswith("test_"):
                yield f"{path.relative_to(TESTS).as_posix()}::{node.name}"


def of(file: str, *names: str) -> tuple[str, ...]:
    """Return patterns of tests in one file of the queue's integration tests."""
    return tuple(f"{QUEUE}/test_{file}.py::{name}" for name in names or ("test_*",))


def rendered() -> str:
    """Return the table as Markdown."""
    head = ["| Group | Cases | Where | Left out, and why |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *(group.row(name) for name, group in NODE_GROUPS.items())])


NODE_GROUPS = {
    "basic": Group(
        (
            *of("jobs", "test_a_thousand*", "test_any_return*", "test_a_value_that*"),
            *of("jobs", "test_nothing_that*", "test_data_that*", "test_progress*"),
            *of("jobs", "test_a_listener*"),
            *of("order", "test_jobs_run_one*", "test_a_slow*", "test_plain_jobs*"),
        ),
        ("completes", "values", "reports", "progress", "clears-logs", "prioritized"),
    ),
    "close": Group(
        (*of("closing"), *of("stopping"), *of("faults", "test_a_worker_that_starts*")),
        left_out="a graceful close with Redis down is bounded here and has no end in Node",
    ),
    "blocking": Group(
        (
            *of("waking"),
            *of("jobs", "test_an_idle*", "test_how_long*", "test_a_stray*"),
            *of("node", "test_an_idle*"),
        ),
        left_out="`getBlockTimeout` and the 2 ms of Redis < 7.0.8: the block has a fixed time here,"
        " a timer of the worker's own is there for due jobs",
    ),
    "removal": Group(
        (*of("jobs", "test_finished_jobs*"), *of("retrying", "test_nothing_of_a_removed*")),
        ("removed-when-*", "keeps-one-*", "keeps-by-*", "worker-keeps-*"),
    ),
    "retries and backoff": Group(
        (
            *of("retrying"),
            *of("jobs", "test_a_failing*", "test_a_retry*", "test_a_custom*", "test_an_unknown*"),
            *of("job_calls", "test_a_listener*", "test_what_an_active*"),
            *of("jobs", "test_an_unrec*", "test_failed_with*", "test_attempts_that*"),
            "unit/queue/test_values.py::*backoff*",
            "unit/queue/test_values.py::*jitter*",
        ),
        ("fails-*", "gives-up", "own-backoff*", "retried-by-*", "no-stacktraces", "one-stack*"),
    ),
    "step jobs": Group(
        (*of("jobs", "test_delayed_and*", "test_deferred_puts*", "test_a_job_started*"),),
        ("later", "waits*", "started-out*", "completes-*", "drops-its-children"),
    ),
    "concurrency and pause": Group(
        (
            *of("limits", "test_the_queues*", "test_a_workers*"),
            *of("order", "test_jobs_run_one*"),
            *of("holding", "test_a_job_without_lock*"),
            *of("closing", "test_after_pausing*"),
            *of("jobs", "test_a_paused*", "test_pause_waits*", "test_a_held*"),
            *of("node", "test_nothing_is_lost*"),
            "conformance/test_queue_controls.py::*paused*",
        ),
        ("one-at-a-time*",),
        "moving a list of thousands from `paused` to `wait` is the producer's part",
    ),
    "locks and cancelling": Group(
        (
            *of("holding", "test_every_lock*", "test_no_ending*", "test_cancel*"),
            *of("holding", "test_a_cancelled*", "test_jobs_that_come*"),
            *of("jobs", "test_cancel*"),
            *of("faults", "*lock*", "test_renewals*", "test_a_job_that_is_no*", "test_a_loop*"),
            *of("frozen"),
            *of("limits", "test_the_locks*"),
        ),
        ("extends-locks",),
    ),
    "stalled": Group(
        (
            *of("holding", "*stall*", "test_a_worker_that_skips*", "test_one_sweep*"),
            *of("faults", "test_the_first*", "test_a_job_that_stalls*"),
            *of("stall_limit"),
        ),
        ("stalled*", "flow-*-of-a-stalled-child", "scheduled-and-stalled"),
    ),
    "manual": Group(
        (
            *of("manual"),
            *of("holding", "test_a_job_claimed*"),
            *of("schedulers", "test_a_job_claimed*"),
            *of("job_calls", "test_a_job_claimed*"),
        ),
    ),
    "rate limiter": Group(
        (
            *of("jobs", "test_the_limiter*", "test_a_rate*"),
            *of("limits", "test_a_job_that_meets*"),
            *of("pace"),
            *of("closing", "test_a_limit*"),
        ),
        ("limited*",),
        "groups are of BullMQ Pro",
    ),
    "delay": Group(
        (
            *of("jobs", "test_a_delayed*", "test_due_jobs*"),
            *of("order", "*due*", "test_plain_jobs*"),
            *of("waking", "*due*"),
        ),
        ("delayed", "moves-its-delay", "promotes-itself*"),
    ),
    "prioritized": Group(
        (
            *of("jobs", "test_priorities*"),
            *of("order", "*priorit*"),
            *of("retrying", "*urgent*", "test_a_lifo*"),
            "conformance/test_queue_controls.py::*lifo_and_priority*",
        ),
        ("prioritized", "*-prioritized", "moves-itself-up*"),
    ),
    "deduplication": Group(
        (),
        ("deduplicated*", "keeps-last-*", "lets-others-in"),
        "what `Queue.add` does with a second job is the producer's part",
    ),
    "flow": Group(
        (*of("job_calls", "*child*", "*parent*"), "conformance/test_queue_controls.py::*flow*"),
        ("flow*", "waits-for-*", "completes-*", "drops-its-children"),
        "`FlowProducer` and `getFlow` are the app's",
    ),
    "job_scheduler": Group(
        (
            *of("schedulers"),
            *of("jobs", "test_a_job_scheduler*"),
            *of("node", "test_a_repeatable*"),
            "conformance/test_cron.py::*",
            "unit/queue/test_cron.py::*",
        ),
        ("every*", "cron*", "scheduled-*", "repeatable-*"),
        "adding, changing, listing and removing schedulers is the app's",
    ),
    "metrics": Group((*of("order", "*counted*"),), ("metrics",)),
    "events": Group(
        (
            *of("order", "*event*", "test_drained*", "test_listeners*"),
            *of("jobs", "test_a_worker_says*"),
            "conformance/test_local_events.py::*",
            "conformance/test_seen_by_the_app.py::*waits_for*",
            "conformance/test_campaigns.py::*thousand*",
        ),
        left_out="`Queue.trimEvents` is the app's",
    ),
    "getters": Group(
        (
            *of("jobs", "test_only_the_blocking*"),
            *of("node", "test_node_reads*", "test_a_worker_is_found*"),
            *of("job_calls", "test_a_job_that_is_gone*", "test_a_question*"),
            "conformance/test_seen_by_the_app.py::*listed*",
            "conformance/test_seen_by_the_app.py::*had_a_job_last*",
            "conformance/test_queue_controls.py::*sees_the_worker*",
            "conformance/test_dashboard.py::*",
        ),
        ("asks",),
        "the getters of a Queue read what the scenarios compare",
    ),
}
