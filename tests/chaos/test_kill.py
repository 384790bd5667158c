"""Short forms of `make chaos-kill`: the same runs, with fewer faults."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.kill.run import run
from tests.chaos.kill.world import Plan


async def test_kills_at_random_moments_lose_nothing_and_double_nothing_under_hold(
    tmp_path: Path, postgres_template: Path
) -> None:
    report = await run(Plan(seed=11), "random", 25, tmp_path, template=postgres_template)
    assert report.good, report
    assert report.kills == 25
    assert report.accepted > 100


async def test_kills_under_resend_repeat_only_mails_that_were_cut_off_and_the_same_to_the_byte(
    tmp_path: Path, postgres_template: Path
) -> None:
    plan = Plan(seed=12, policy="resend")
    report = await run(plan, "random", 15, tmp_path, template=postgres_template)
    assert report.good, report
