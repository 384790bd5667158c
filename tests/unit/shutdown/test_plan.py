from __future__ import annotations

import asyncio
import logging
import time

import pytest

from shutdown import Deadline, Phase, PhaseReport, PhaseResult, Plan


class Steps:
    """Phases that note that they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def phase(self, name: str, *, reserve_seconds: float = 0.0) -> Phase:
        async def run(_deadline: Deadline) -> None:
            self.ran.append(name)

        return Phase(name, "a test", run, reserve_seconds)


async def hang(_deadline: Deadline) -> None:
    await asyncio.Event().wait()


def results(reports: list[PhaseReport]) -> list[tuple[str, PhaseResult]]:
    return [(report.name, report.result) for report in reports]


async def test_phases_run_in_their_order_and_each_is_reported() -> None:
    steps, heard = Steps(), []
    plan = Plan([steps.phase("quiet"), steps.phase("drain"), steps.phase("close")], heard.append)

    reports = await plan.run(Deadline.after(5))

    assert steps.ran == ["quiet", "drain", "close"]
    assert results(reports) == [(name, PhaseResult.DONE) for name in steps.ran]
    assert heard == reports
    assert all(0 <= report.seconds < 1 for report in reports)


async def test_a_failing_phase_does_not_take_the_next_ones_with_it() -> None:
    steps = Steps()

    def raises_when_called(_deadline: Deadline) -> None:
        raise LookupError("not even a coroutine")

    async def raises(_deadline: Deadline) -> None:
        raise OSError("gone")

    plan = Plan(
        [
            Phase("flush", "a test", raises),
            Phase("settle", "a test", raises_when_called),  # type: ignore[arg-type] # the fault under test
            steps.phase("close"),
        ]
    )

    reports = await plan.run(Deadline.after(5))

    assert [report.result.value for report in reports] == ["failed", "failed", "done"]
    assert isinstance(reports[0].error, OSError)
    assert isinstance(reports[1].error, LookupError)
    assert steps.ran == ["close"]


async def test_a_phase_is_cut_where_the_reserve_of_the_next_ones_begins() -> None:
    steps = Steps()
    began = time.monotonic()

    reports = await Plan(
        [Phase("drain", "a test", hang, reserve_seconds=59.95), steps.phase("close")]
    ).run(Deadline.after(60))

    assert results(reports) == [("drain", PhaseResult.TIMED_OUT), ("close", PhaseResult.DONE)]
    assert time.monotonic() - began < 5


async def test_a_phase_is_told_its_own_deadline() -> None:
    seen: list[Deadline] = []

    async def run(deadline: Deadline) -> None:
        seen.append(deadline)

    whole = Deadline.after(60)
    await Plan([Phase("drain", "a test", run, reserve_seconds=8)]).run(whole)

    assert seen == [whole.sooner(8)]


async def test_a_phase_that_begins_after_the_deadline_still_has_its_first_step() -> None:
    steps = Steps()

    reports = await Plan([Phase("drain", "a test", hang), steps.phase("close")]).run(
        Deadline.after(-1)
    )

    assert results(reports) == [("drain", PhaseResult.TIMED_OUT), ("close", PhaseResult.DONE)]
    assert steps.ran == ["close"]


async def test_a_phase_that_ignores_its_cancellation_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    steps, release, over = Steps(), asyncio.Event(), asyncio.Event()

    async def deaf(_deadline: Deadline) -> None:
        try:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            raise OSError("late and loud")
        finally:
            over.set()

    reports = await Plan([Phase("drain", "a test", deaf), steps.phase("close")]).run(
        Deadline.after(0.01)
    )
    assert results(reports) == [("drain", PhaseResult.TIMED_OUT), ("close", PhaseResult.DONE)]

    release.set()
    await over.wait()
    await asyncio.sleep(0)
    assert "failed late" in caplog.text


async def test_a_listener_that_fails_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = Steps()

    def broken(_report: PhaseReport) -> None:
        raise LookupError("no such gauge")

    reports = await Plan([steps.phase("quiet"), steps.phase("close")], broken).run(
        Deadline.after(5)
    )

    assert steps.ran == ["quiet", "close"]
    assert len(reports) == 2
    assert "no such gauge" in caplog.text


async def test_a_cancelled_plan_gives_every_phase_its_turn_and_then_stays_cancelled() -> None:
    steps, heard, inside = Steps(), [], asyncio.Event()

    async def drain(_deadline: Deadline) -> None:
        inside.set()
        await asyncio.Event().wait()

    plan = Plan([Phase("drain", "a test", drain), steps.phase("close")], heard.append)
    running = asyncio.create_task(plan.run(Deadline.after(60)))
    await inside.wait()

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert steps.ran == ["close"]
    assert results(heard) == [("drain", PhaseResult.FAILED), ("close", PhaseResult.DONE)]


async def test_a_phase_cancelled_from_within_is_a_failure_of_that_phase_alone() -> None:
    steps = Steps()

    async def cancelled(_deadline: Deadline) -> None:
        raise asyncio.CancelledError

    reports = await Plan([Phase("drain", "a test", cancelled), steps.phase("close")]).run(
        Deadline.after(5)
    )

    assert results(reports) == [("drain", PhaseResult.FAILED), ("close", PhaseResult.DONE)]
    assert isinstance(reports[0].error, asyncio.CancelledError)


async def test_an_error_during_the_unwinding_of_a_late_phase_is_in_its_report() -> None:
    async def untidy(_deadline: Deadline) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("while tidying up")

    reports = await Plan([Phase("flush", "a test", untidy)]).run(Deadline.after(0.01))

    assert reports[0].result is PhaseResult.TIMED_OUT
    assert isinstance(reports[0].error, OSError)


async def test_every_phase_leaves_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    await Plan([Steps().phase("quiet"), Phase("drain", "a test", hang)]).run(Deadline.after(0.05))

    lines = [record for record in caplog.records if record.name == "shutdown.plan"]
    assert [(record.__dict__["phase"], record.__dict__["result"]) for record in lines] == [
        ("quiet", "done"),
        ("drain", "timed_out"),
    ]
