"""The reconciler's walk: every due row in its turn, whatever goes wrong in between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from campaign_worker.delivery.reconciler import PAGE, DueRow, Reconciler, Resolved
from campaign_worker.errors import DatabaseAway, RedisAway
from metrics import Event, RowsReconciled
from tests.support import eventually


class World:
    """A ledger with so many due rows, a queue that revives them, and what both were asked."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = list(range(1, rows + 1))
        self.revived: list[int] = []
        self.events: list[Event] = []
        self.errors: list[Exception] = []
        self.redis_away = False
        self.ticks = 0

    async def resolve_expired(self) -> Resolved:
        self.ticks += 1
        if self.errors:
            raise self.errors.pop(0)
        return Resolved(2, 1, 0)

    async def due_rows(self, after: int, limit: int) -> Sequence[DueRow]:
        page = [row for row in self.rows if row > after][:limit]
        return [DueRow(row, 1, row, 0, None, None, "campaign", None) for row in page]

    async def complete_campaigns(self) -> Sequence[int]:
        return [7]

    async def revive(self, rows: Sequence[DueRow]) -> int:
        if self.redis_away:
            raise RedisAway("gone")
        self.revived += [row.id for row in rows]
        return len(rows)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def reconciler(self) -> Reconciler:
        return Reconciler(self, self, self, interval_seconds=0.01)


async def test_one_tick_says_what_it_did() -> None:
    world = World(3)
    await world.reconciler().tick()
    told = [(one.kind, one.count) for one in world.events if isinstance(one, RowsReconciled)]
    assert told == [
        ("lease_expired_scheduled", 2),
        ("lease_expired_in_doubt", 1),
        ("job_revived", 3),
        ("campaign_completed", 1),
    ]


async def test_a_long_backlog_is_walked_to_its_end_and_begun_again() -> None:
    world = World(7 * PAGE + 5)
    reconciler = world.reconciler()
    await reconciler.tick()
    assert world.revived == world.rows[: 5 * PAGE]
    await reconciler.tick()
    assert world.revived == world.rows
    await reconciler.tick()
    assert world.revived[len(world.rows)] == 1


async def test_a_page_that_redis_did_not_take_is_offered_again() -> None:
    world = World(5)
    reconciler = world.reconciler()
    world.redis_away = True
    with pytest.raises(RedisAway):
        await reconciler.tick()
    world.redis_away = False
    await reconciler.tick()
    assert world.revived == world.rows


async def test_ticking_goes_on_whatever_happens() -> None:
    world = World(1)
    world.errors = [DatabaseAway("gone"), ValueError("nobody foresaw this")]
    reconciler = world.reconciler()
    await reconciler.start()
    await eventually(lambda: len(world.revived) >= 2)
    await reconciler.stop()
    assert world.ticks >= 4
