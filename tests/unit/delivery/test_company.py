"""Many at once or one alone, in the order of their coming, whoever gives up in between."""

from __future__ import annotations

import asyncio
import contextlib
import random

from campaign_worker.delivery.company import Company
from tests.support import eventually


class Visitor:
    """Enters a company as a task of its own, and stays until it is told to leave."""

    def __init__(self, company: Company, *, alone: bool) -> None:
        self._way = company.alone if alone else company.beside
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        async with self._way():
            self.inside = True
            try:
                await self._leave.wait()
            finally:
                self.inside = False

    async def leave(self) -> None:
        self._leave.set()
        await self.task

    async def give_up(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def settled() -> None:
    """Let every task come as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_are_inside_at_once_and_one_alone_waits_until_they_have_left() -> None:
    company = Company()
    first, second = Visitor(company, alone=False), Visitor(company, alone=False)
    await settled()
    assert first.inside
    assert second.inside
    lonely = Visitor(company, alone=True)
    late = Visitor(company, alone=False)
    await first.leave()
    await settled()
    assert not lonely.inside
    assert not late.inside, "nobody overtakes who waits to be alone"
    await second.leave()
    await settled()
    assert lonely.inside
    assert not late.inside
    await lonely.leave()
    await settled()
    assert late.inside
    await late.leave()


async def test_two_are_never_alone_together() -> None:
    company = Company()
    first, second = Visitor(company, alone=True), Visitor(company, alone=True)
    await settled()
    assert first.inside
    assert not second.inside
    await first.leave()
    await settled()
    assert second.inside
    await second.leave()


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    company = Company()
    first = Visitor(company, alone=False)
    await settled()
    lonely = Visitor(company, alone=True)
    await settled()
    late = Visitor(company, alone=False)
    await settled()
    await lonely.give_up()
    await settled()
    assert late.inside
    await first.leave()
    await late.leave()


async def test_who_is_let_in_and_cancelled_in_the_same_moment_leaves_again() -> None:
    company = Company()
    first = Visitor(company, alone=True)
    await settled()
    second = Visitor(company, alone=True)
    await settled()
    first._leave.set()
    await eventually(first.task.done)
    await second.give_up()
    third = Visitor(company, alone=True)
    await settled()
    assert third.inside
    await third.leave()


async def test_in_any_order_of_coming_and_going_one_alone_is_alone() -> None:
    company = Company()
    inside: list[bool] = []
    chance = random.Random(7)  # noqa: S311 - a seed to find it again

    async def visit(*, alone: bool, turns: int) -> None:
        async with company.alone() if alone else company.beside():
            inside.append(alone)
            try:
                for _ in range(turns):
                    assert not any(inside) or len(inside) == 1
                    await asyncio.sleep(0)
            finally:
                inside.remove(alone)

    tasks = []
    for _ in range(300):
        alone, turns = chance.random() < 0.3, chance.randrange(5)
        tasks.append(asyncio.create_task(visit(alone=alone, turns=turns)))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        await asyncio.sleep(0)
    await asyncio.wait(tasks, timeout=5)
    assert all(task.done() for task in tasks)
    assert not [task for task in tasks if not task.cancelled() and task.exception()]
