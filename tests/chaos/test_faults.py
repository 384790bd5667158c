"""Short forms of the other families of `make chaos-kill`: named points, Redis, Postgres."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill.points import POINTS, STATEMENT_POINTS
from tests.chaos.kill.run import run
from tests.chaos.kill.world import Plan


@pytest.mark.slow
async def test_a_kill_at_each_named_point_loses_nothing_and_doubles_nothing(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=21, mails=100)
    report = await run(plan, "kill-everywhere", 1, tmp_path, template=postgres_template)
    assert report.good, report
    assert report.kills >= len(POINTS)


@pytest.mark.slow
async def test_a_statement_that_is_not_executed_or_whose_reply_is_lost_costs_nothing(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=22, mails=100)
    report = await run(plan, "cut-everywhere", 1, tmp_path, template=postgres_template)
    assert report.good, report
    assert (report.kills, report.in_doubt) == (0, 0)
    assert report.cuts >= len(STATEMENT_POINTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["redis-flush", "redis-kill", "redis-kill-empty", "postgres-kill", "postgres-away"]
)
async def test_a_server_that_crashes_in_mid_campaign_costs_nothing(
    tmp_path: Path, postgres_template: Path, fault: str
) -> None:
    plan = Plan(seed=23, mails=100)
    report = await run(plan, fault, 1, tmp_path, template=postgres_template)
    assert report.good, report
    assert (report.cuts, report.in_doubt) == (1, 0)
