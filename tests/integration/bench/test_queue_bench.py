"""The benchmark itself: real workers of all three kinds, few jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.node import NodeBullMQ

ROOT = Path(__file__).parents[3]
FIGURES = {"jobs_per_s", "cpu_us_per_job", "redis_us_per_job"}


def bench(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.queue", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
    return done.stdout.splitlines()


@pytest.mark.node
def test_all_three_workers_are_measured_and_reported_in_one_line_of_json(
    node_bullmq: Callable[[int], NodeBullMQ],
) -> None:
    node_bullmq(6)
    [line] = bench("--jobs", "200", "--runs", "1", "--concurrency", "5", "--json")
    found: dict[str, dict[str, Any]] = json.loads(line)
    assert list(found) == ["ours", "node", "package"]
    for by_concurrency in found.values():
        assert list(by_concurrency) == ["5"]
        assert set(by_concurrency["5"]) == FIGURES
        assert all(value > 0 for value in by_concurrency["5"].values())


def test_the_json_line_is_the_last_of_what_people_read() -> None:
    *table, line = bench("--jobs", "100", "--runs", "2", "--concurrency", "2", "--workers", "ours")
    assert any("jobs/s" in row for row in table)
    assert set(json.loads(line)["ours"]["2"]) == FIGURES


def test_memory_is_compared_between_few_and_many_waiting_jobs() -> None:
    [line] = bench("--memory", "--waiting", "6000", "--json")
    memory = json.loads(line)["memory"]
    assert memory["waiting"] == 6000
    assert memory["few_bytes"] > 10_000_000
    assert memory["many_bytes"] > 10_000_000


def test_an_idle_worker_has_what_is_added_due_or_handed_back_in_time() -> None:
    [line] = bench("--latency", "--json")
    latency: dict[str, dict[str, float]] = json.loads(line)["latency"]
    assert set(latency) == {
        *("pick_up", "due", "hand_back_plain", "hand_back_prioritized", "hand_back_lifo")
    }
    # Ten times the bounds of bench/queue/targets.py, for a machine that tests something else too.
    assert latency["pick_up"]["median_ms"] < 50
    assert all(one["longest_ms"] < 1000 for one in latency.values())
