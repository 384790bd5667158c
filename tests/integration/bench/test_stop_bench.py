"""The benchmark of the stop: few runs, ten times the bound; the figures are for a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.stop.__main__ import TARGETS, p95

ROOT = Path(__file__).parents[3]


def test_idle_exit_and_hand_back_are_measured_and_far_from_ten_times_their_bound() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.stop", "--runs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    *table, line = done.stdout.splitlines()
    assert any("idle worker" in row for row in table), done.stderr
    figures = json.loads(line)
    for name, bound in TARGETS.items():
        assert 0 < figures[f"{name}_p95_s"] < 10 * bound


def test_p95_is_the_value_that_95_of_100_do_not_exceed() -> None:
    assert p95([float(each) for each in range(1, 101)]) == 95.0
    assert p95([float(each) for each in range(1, 51)]) == 48.0
    assert p95([7.0]) == 7.0
