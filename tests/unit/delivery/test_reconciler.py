"""The reconciler's walk: every due row in its turn, whatever goes wrong in between."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Mapping, Sequence

import pytest

from campaign_worker.delivery.reconciler import PAGE, Reconciler
from campaign_worker.delivery.restoring import Restoring
from campaign_worker.delivery.revival import BEGINNING, Cursor, DueRow, Resolved, Resumed
from campaign_worker.errors import DatabaseAway, ReconcilerTaken, RedisAway
from metrics import Event, RowsReconciled
from tests.support import eventually

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class World:
    """A ledger with so many due rows, a queue that revives them, and what both were asked."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = list(range(1, rows + 1))
        self.later: list[int] = []
        self.healthy: set[int] = set()
        self.sent: set[int] = set()
        self.jobless: list[int] = []
        self.revived: list[int] = []
        self.woken: list[int] = []
        self.aside: list[int] = []
        self.resumed: list[Resumed] = []
        self.over: list[int] = []
        self.events: list[Event] = []
        self.errors: list[Exception] = []
        self.redis_away = False
        self.spool_away = False
        self.ticks = self.released = self.drained = 0
        self.in_redis: dict[str, str | None] = {"campaign": "e1"}
        self.in_postgres: dict[str, str] = {"campaign": "e1"}

    async def drain(self) -> None:
        if self.spool_away:
            raise RedisAway("gone")
        self.drained += 1

    async def release(self) -> None:
        self.released += 1

    async def resolve_expired(self) -> Resolved:
        assert self.drained > self.ticks, "an owner who is gone may have left its outcome behind"
        self.ticks += 1
        if self.errors:
            raise self.errors.pop(0)
        return Resolved(2, 1, 0, 4)

    async def due_rows(self, after: Cursor, limit: int, *, every: bool) -> Sequence[DueRow]:
        numbers = self.rows + (self.later if every else [])
        return [row(number) for number in numbers if number > after.id][:limit]

    async def jobless_rows(self, limit: int) -> Sequence[DueRow]:
        return [row(number) for number in self.jobless][:limit]

    async def still_scheduled(self, rows: Sequence[DueRow]) -> Sequence[DueRow]:
        return [one for one in rows if one.id not in self.sent]

    async def resumed_campaigns(self) -> Sequence[Resumed]:
        return self.resumed

    async def resumed_rows(self, _campaign_id: int, after: int, limit: int) -> Sequence[DueRow]:
        return [row(number) for number in self.rows if number > after][:limit]

    async def resumption_over(self, resumed: Resumed) -> None:
        self.over.append(resumed.campaign_id)
        self.resumed.remove(resumed)

    async def complete_campaigns(self) -> Sequence[int]:
        return [7]

    async def epochs(self, queues: Sequence[str] | None = None) -> Mapping[str, str | None]:
        if self.redis_away:
            raise RedisAway("gone")
        return dict(self.in_redis) if queues is None else dict(self.in_postgres)

    async def write_epochs(self, epochs: Mapping[str, str]) -> None:
        self.in_postgres |= epochs

    async def write_epoch(self, queue: str, epoch: str, *, instead_of: str | None) -> bool:
        if self.in_redis[queue] != instead_of:
            return False
        self.in_redis[queue] = epoch
        return True

    def sweep(self) -> World:
        return self

    async def needy(self, rows: Sequence[DueRow]) -> Sequence[DueRow]:
        if self.redis_away:
            raise RedisAway("gone")
        return [one for one in rows if one.id not in self.healthy]

    async def call_back(self, _campaign_id: int, limit: int) -> int | None:
        called, self.aside = self.aside[:limit], self.aside[limit:]
        self.woken += called
        return len(called) or None

    async def revive(self, rows: Sequence[DueRow]) -> int:
        self.revived += [one.id for one in rows]
        return len(rows)

    async def wake(self, rows: Sequence[DueRow]) -> int:
        self.woken += [one.id for one in rows]
        return len(rows)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def reconciler(self, interval_seconds: float = 0.01) -> Reconciler:
        return Reconciler(self, self, self, drain=self.drain, interval_seconds=interval_seconds)


def row(number: int) -> DueRow:
    due_at = NOW + dt.timedelta(seconds=number)
    return DueRow(number, 1, number, 0, None, "campaign", None, due_at, -1.0)


async def test_no_lease_is_resolved_before_what_was_written_down_is_drained() -> None:
    world = World()
    world.spool_away = True
    with pytest.raises(RedisAway):
        await world.reconciler().tick()
    assert (world.drained, world.ticks) == (0, 0)
    world.spool_away = False
    await world.reconciler().tick()
    assert (world.drained, world.ticks) == (1, 1)


async def test_one_tick_says_what_it_did() -> None:
    world = World(3)
    await world.reconciler().tick()
    told = [(one.kind, one.count) for one in world.events if isinstance(one, RowsReconciled)]
    assert told == [
        ("lease_expired_scheduled", 2),
        ("lease_expired_in_doubt", 1),
        ("lease_expired_quarantined", 4),
        ("job_revived", 3),
        ("campaign_completed", 1),
    ]


async def test_a_long_backlog_is_walked_to_its_end_and_begun_again() -> None:
    world = World(7 * PAGE + 5)
    reconciler = world.reconciler()
    assert await reconciler.tick(), "most of these rows were in need: the rest should not wait"
    assert world.revived == world.rows[: 5 * PAGE]
    assert not await reconciler.tick()
    assert world.revived == world.rows
    await reconciler.tick()
    assert world.revived[len(world.rows)] == 1


async def test_a_backlog_whose_jobs_live_is_looked_at_without_haste() -> None:
    world = World(7 * PAGE)
    world.healthy = set(world.rows)
    assert not await world.reconciler().tick()
    assert world.revived == []


async def test_a_job_that_finished_while_its_row_was_looked_at_is_left_alone() -> None:
    world = World(3)
    world.sent = {2}
    await world.reconciler().tick()
    assert world.revived == [1, 3]


async def test_a_follow_up_without_a_job_is_met_before_it_is_overdue() -> None:
    world = World()
    world.jobless = [9]
    await world.reconciler().tick()
    assert world.revived == [9]


async def test_a_page_that_redis_did_not_take_is_offered_again() -> None:
    world = World(5)
    reconciler = world.reconciler()
    world.redis_away = True
    with pytest.raises(RedisAway):
        await reconciler.tick()
    world.redis_away = False
    await reconciler.tick()
    assert world.revived == world.rows


async def test_ticking_goes_on_whatever_happens_and_the_lease_is_given_up_at_the_end() -> None:
    world = World(1)
    world.errors = [
        DatabaseAway("gone"),
        ReconcilerTaken(0.01),
        ValueError("nobody foresaw this"),
    ]
    reconciler = world.reconciler()
    await reconciler.start()
    await eventually(lambda: len(world.revived) >= 2)
    await reconciler.stop()
    assert world.ticks >= 5
    assert world.released == 1


async def test_one_broken_connection_does_not_cost_a_whole_interval() -> None:
    world = World(1)
    world.errors = [DatabaseAway("one connection")]
    reconciler = world.reconciler(interval_seconds=3600.0)
    await reconciler.start()
    await eventually(lambda: world.revived, 10.0)
    await reconciler.stop()
    assert world.ticks == 2


@pytest.mark.parametrize("found", [None, "from an old snapshot"])
async def test_a_changed_epoch_brings_every_scheduled_row_also_those_due_later(
    found: str | None,
) -> None:
    world = World(25 * PAGE)
    world.later = [26 * PAGE]
    world.in_redis["campaign"] = found
    restoring = Restoring(world, world)
    first = await restoring.step()
    assert (first.revived, first.more) == (20 * PAGE, True)
    assert world.in_postgres["campaign"] == "e1", "a sweep that breaks off is begun again"
    second = await restoring.step()
    assert (second.revived, second.more) == (5 * PAGE + 1, False)
    assert world.revived == [*world.rows, *world.later]
    assert world.in_postgres == world.in_redis
    assert (await restoring.step()).revived == 0


async def test_the_epoch_is_another_after_each_look_and_no_row_is_looked_at() -> None:
    world = World(3)
    before = dict(world.in_redis)
    restored = await Restoring(world, world).step()
    assert (restored.looked, restored.more) == (0, False)
    assert world.in_redis == world.in_postgres != before


async def test_an_epoch_that_another_replica_has_turned_meanwhile_is_left_to_it() -> None:
    class Overtaken(World):
        """Another replica writes its epoch between our look and our own."""

        async def write_epoch(self, queue: str, epoch: str, *, instead_of: str | None) -> bool:
            self.in_redis[queue] = self.in_postgres[queue] = "theirs"
            return await super().write_epoch(queue, epoch, instead_of=instead_of)

    world = Overtaken(3)
    await Restoring(world, world).step()
    assert world.in_postgres == world.in_redis == {"campaign": "theirs"}


async def test_redis_that_is_emptied_during_the_sweep_is_swept_from_the_start() -> None:
    world = World(25 * PAGE)
    world.in_redis["campaign"] = None
    restoring = Restoring(world, world)
    await restoring.step()
    world.in_redis["campaign"] = None
    assert (await restoring.step()).revived == 20 * PAGE
    assert world.revived[20 * PAGE] == 1
    assert not (await restoring.step()).more


async def test_a_resumed_campaign_is_woken_at_once_and_once_more_when_it_has_settled() -> None:
    world = World(3)
    world.healthy = set(world.rows)
    fresh = Resumed(1, NOW, settled=False)
    world.resumed = [fresh]
    reconciler = world.reconciler()
    assert not await reconciler.tick()
    assert not await reconciler.tick()
    assert (world.woken, world.over) == ([1, 2, 3], [])
    world.resumed = [dataclasses.replace(fresh, settled=True)]
    await reconciler.tick()
    assert (world.woken, world.over) == ([1, 2, 3] * 2, [1])


async def test_jobs_that_were_put_off_without_a_row_are_woken_first() -> None:
    world = World(1)
    world.healthy = set(world.rows)
    world.aside = [101, 102]
    world.resumed = [Resumed(1, NOW, settled=True)]
    await world.reconciler().tick()
    assert (world.woken, world.over) == ([101, 102, 1], [1])


async def test_at_most_2000_jobs_a_second_are_woken() -> None:
    world = World(2 * PAGE)
    world.healthy = set(world.rows)
    world.resumed = [Resumed(1, NOW, settled=True)]
    reconciler = world.reconciler()
    began_at = time.monotonic()
    while await reconciler.tick():
        assert len(world.woken) <= len(world.rows)
    assert time.monotonic() - began_at >= 1.0
    assert world.woken == world.rows


def test_a_walk_begins_before_every_row() -> None:
    assert (BEGINNING.due_at, BEGINNING.id) < (row(1).due_at, 1)
