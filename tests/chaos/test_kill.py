"""Short forms of `make chaos-kill`: the same runs, with fewer faults."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.kill.run import run
from tests.chaos.kill.world import Plan


async def test_kills_at_random_moments_lose_nothing_and_double_nothing_under_hold(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=11, mails=100)
    report = await run(plan, "random", 15, tmp_path, template=postgres_template)
    assert report.good, report
    assert report.kills == 15
    assert report.jobs_compared > 50
    assert report.accepted > 50


async def test_kills_under_resend_repeat_only_mails_that_were_cut_off_and_the_same_to_the_byte(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=12, mails=100, policy="resend")
    report = await run(plan, "random", 12, tmp_path, template=postgres_template)
    assert report.good, report
    assert report.kills == 12
    assert report.duplicated <= report.in_doubt_limit


async def test_kills_beside_a_provider_with_idempotency_keys_leave_nothing_in_doubt(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=13, mails=100, policy="idempotent")
    report = await run(plan, "random", 12, tmp_path, template=postgres_template)
    assert report.good, report
    assert (report.in_doubt_limit, report.kills) == (0, 12)
    assert report.accepted >= 100


async def test_workers_whose_clocks_are_four_minutes_apart_send_nothing_early_and_nothing_twice(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=14, mails=100)
    report = await run(plan, "clocks", 8, tmp_path, template=postgres_template)
    assert report.good, report
    assert (report.early, report.kills) == (0, 8)


async def test_two_workers_that_both_believe_they_own_a_job_send_one_mail(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=15, mails=100)
    report = await run(plan, "rivals", 60, tmp_path, template=postgres_template)
    assert report.good, report
    assert (report.kills, report.in_doubt) == (0, 0)
    assert report.cuts >= 60
