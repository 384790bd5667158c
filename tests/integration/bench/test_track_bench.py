"""The benchmark of tracking itself: all trackers, one short run; its figures are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.track import targets
from bench.track.contenders import Contender
from bench.track.measure import Cost
from bench.track.wire import Answer
from tests.fixtures.node import NodeBullMQ

ROOT = Path(__file__).parents[3]
FIGURES = {"requests_per_s", "cpu_us_per_request", "p50_ms", "p99_ms"}
SHORT = ("--runs", "1", "--seconds", "0.4", "--warm", "0.2", "--messages", "2000")


def bench(*arguments: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.track", *SHORT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    *table, line = done.stdout.splitlines()
    return table, json.loads(line)


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_all_trackers_are_measured_and_every_answer_has_its_row(
    node_bullmq: Callable[[int], NodeBullMQ],
) -> None:
    """That answers and rows agree is held by the run itself, after each load."""
    node_bullmq(6)
    table, found = bench()
    assert any("requests/s" in row for row in table)
    assert list(found) == ["ours", "node", "node_lean"]
    for figures in found.values():
        assert set(figures) >= FIGURES
        assert all(value > 0 for value in figures.values())
    assert found["ours"]["p99_ms_postgres_stopped"] > 0
    assert "p99_ms_postgres_stopped" not in found["node"] | found["node_lean"]


def test_targets_are_judged_beside_node() -> None:
    ours = Cost(9000, 100, 1, 19, 60, 40, 10, 99)
    node = Cost(4500, 250, 3, 30, 150, 100, 10)
    judged = list(targets.of({Contender.OURS: ours, Contender.NODE: node}))
    assert [one.met for one in judged] == [True] * 4
    slower = Cost(8999, 101, 1, 21, 60, 41, 10, 101)
    judged = list(targets.of({Contender.OURS: slower, Contender.NODE: node}))
    assert [one.met for one in judged] == [False] * 4


def test_an_answers_header_is_found_whatever_its_case() -> None:
    answer = Answer(302, b"HTTP/1.1 302 Found\r\nlocation: https://a.example/?b=c\r\nX: y")
    assert answer.header("Location") == "https://a.example/?b=c"
    assert answer.header("Loc") is None
