from __future__ import annotations

import asyncio
import time

import pytest

from shutdown import Deadline, end, unless


async def test_a_deadline_only_ever_has_less_left_and_never_below_nothing() -> None:
    deadline = Deadline.after(60)

    first, second = deadline.remaining(), deadline.remaining()

    assert 59 < second <= first <= 60
    assert Deadline.after(-1).remaining() == 0
    assert Deadline.after(-1).expired
    assert not deadline.expired


def test_sooner_keeps_a_reserve_and_at_most_takes_the_smaller() -> None:
    deadline = Deadline.after(60)

    assert deadline.sooner(10).at == deadline.at - 10
    assert deadline.at_most(600) == deadline
    assert deadline.at_most(1) < deadline


def test_a_deadline_that_would_never_come_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Deadline.after(float("nan"))


async def test_wait_for_hands_on_a_result_that_is_in_time() -> None:
    async def answer() -> int:
        return 42

    assert await Deadline.after(5).wait_for(answer()) == 42


async def test_wait_for_cancels_what_is_late_and_says_so() -> None:
    cut = asyncio.Event()

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    with pytest.raises(TimeoutError):
        await Deadline.after(0.01).wait_for(late())
    assert cut.is_set()


async def test_a_body_entered_after_the_deadline_runs_to_its_first_suspension_only() -> None:
    steps = []

    async def late() -> None:
        async with Deadline.after(-5).limit():
            steps.append("before")
            await asyncio.Event().wait()
            steps.append("after")

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await late()

    assert steps == ["before"]
    assert time.monotonic() - began < 1


async def test_a_cancellation_from_outside_stays_a_cancellation() -> None:
    waiting = asyncio.create_task(Deadline.after(60).wait_for(asyncio.Event().wait()))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_end_cancels_until_a_task_that_swallows_cancellations_is_over() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.done() for task in tasks)
    assert swallowed == 3
    await end()


async def test_unless_cuts_work_that_swallows_its_first_cancellation() -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async with asyncio.timeout(5):
        assert not await unless(work(), asyncio.sleep(0))


async def test_unless_reports_work_that_was_done() -> None:
    async def work() -> None:
        return

    assert await unless(work(), asyncio.Event().wait())


async def test_unless_cuts_work_that_was_interrupted() -> None:
    interrupt, cut = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        interrupt.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    assert not await unless(work(), interrupt.wait())
    assert cut.is_set()


async def test_unless_raises_what_the_work_raises() -> None:
    async def work() -> None:
        raise LookupError("the work")

    with pytest.raises(LookupError, match="the work"):
        await unless(work(), asyncio.Event().wait())


async def test_unless_passes_a_cancellation_on_to_both() -> None:
    ends: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(name)

    racing = asyncio.create_task(unless(wait("work"), wait("interrupt")))
    for _ in range(3):
        await asyncio.sleep(0)
    racing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await racing
    assert sorted(ends) == ["interrupt", "work"]
