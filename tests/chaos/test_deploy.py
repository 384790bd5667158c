"""The short form of `make chaos-deploy`: 2,000 mails, a deploy every 1.5 s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.deploy.run import Plan, Result

ROOT = Path(__file__).parents[2]
TROUBLES = ("lost", "twice", "stalled", "failed", "miscounted")
KEYS = (*TROUBLES, "deploys", "mails_per_s", "mails_per_s_without")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_campaign_of_2000_mails_does_not_notice_rolling_deploys() -> None:
    """How fast it is meanwhile is for the long form, on a machine of its own."""
    options = ["--mails", "2000", "--mails-without", "400", "--interval", "1.5"]
    options += ["--least-deploys", "2", "--least-share", "0", "--seed", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.deploy", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    figures = json.loads(line)
    assert tuple(figures) == KEYS
    assert [figures[trouble] for trouble in TROUBLES] == [0] * 5
    assert figures["deploys"] >= 2


def test_a_run_fails_for_every_mail_that_is_wrong_and_for_too_few_deploys_or_too_slow_a_pace() -> (
    None
):
    plan = Plan(
        mails=20_000,
        replicas=2,
        in_flight=20,
        latency_ms=100,
        interval=5,
        seed=1,
        least_deploys=10,
        least_share=0.8,
        mails_without=5_000,
    )
    assert Result(0, 0, 0, 0, 0, 10, 80.0, 100.0).faults(plan) == []
    assert len(Result(1, 1, 1, 1, 1, 9, 79.0, 100.0).faults(plan)) == 7
