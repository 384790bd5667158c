"""The batcher alone, over a function that plays Postgres: who travels with whom, who hears what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from campaign_worker.errors import DatabaseAway, RowRefused
from campaign_worker.storage.batcher import MAX_WEIGHT, Batcher
from metrics import BatchFlushed, Event


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


class Postgres:
    """Executes batches: waits for the gate, raises what is queued, refuses bad items."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []
        self.bad: set[int] = set()

    async def execute(self, items: Sequence[int]) -> Sequence[str]:
        self.batches.append(list(items))
        self.asked.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.bad & set(items):
            raise asyncpg.DataError("a value is at fault")
        return [f"answer {item}" for item in items]


def batcher_over(postgres: Postgres, max_size: int = 200) -> Batcher[int, str]:
    return Batcher("test", postgres.execute, Heard(), max_size=max_size)


async def test_what_comes_during_a_flush_travels_in_the_next_one() -> None:
    postgres = Postgres()
    postgres.gate.clear()
    batcher = batcher_over(postgres)
    first = batcher.submit(0)
    await postgres.asked.wait()
    rest = [batcher.submit(n) for n in range(1, 6)]
    assert postgres.batches == [[0]]
    postgres.gate.set()
    assert await asyncio.gather(first, *rest) == [f"answer {n}" for n in range(6)]
    assert postgres.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_batch_has_a_largest_size() -> None:
    postgres = Postgres()
    batcher = batcher_over(postgres, max_size=4)
    await asyncio.gather(*(batcher.submit(n) for n in range(10)))
    assert postgres.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_batch_has_a_largest_weight_and_at_least_one_item() -> None:
    postgres = Postgres()
    half = MAX_WEIGHT // 2
    weights = {0: half, 1: half, 2: 1, 3: 5 * MAX_WEIGHT, 4: 0, 5: MAX_WEIGHT, 6: 1}
    batcher = Batcher("test", postgres.execute, Heard(), weight=weights.__getitem__)
    await asyncio.gather(*map(batcher.submit, weights))
    assert postgres.batches == [[0, 1], [2], [3], [4, 5], [6]]


@pytest.mark.parametrize(
    "race",
    [asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError],
)
async def test_a_lost_race_is_repeated_whole(race: type[asyncpg.PostgresError]) -> None:
    postgres = Postgres()
    postgres.errors = [race("lost"), race("lost")]
    batcher = batcher_over(postgres)
    answers = await asyncio.gather(*(batcher.submit(n) for n in (1, 2)))
    assert answers == ["answer 1", "answer 2"]
    assert postgres.batches == [[1, 2]] * 3


async def test_who_loses_every_race_is_told_that_postgres_is_away() -> None:
    postgres = Postgres()
    postgres.errors = [asyncpg.DeadlockDetectedError("lost") for _ in range(100)]
    with pytest.raises(DatabaseAway, match="lost races"):
        await batcher_over(postgres).submit(1)


async def test_a_bad_item_fails_alone_wherever_it_stands() -> None:
    postgres = Postgres()
    postgres.bad = {3, 17, 18, 49}
    batcher = batcher_over(postgres)
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(50)), return_exceptions=True)
    refused = {n for n, answer in enumerate(answers) if isinstance(answer, RowRefused)}
    assert refused == {3, 17, 18, 49}
    assert [a for a in answers if isinstance(a, str)] == [
        f"answer {n}" for n in range(50) if n not in refused
    ]


async def test_a_broken_connection_is_tried_once_more() -> None:
    postgres = Postgres()
    postgres.errors = [DatabaseAway("connection was closed")]
    assert await batcher_over(postgres).submit(1) == "answer 1"


async def test_everybody_is_told_when_postgres_stays_away() -> None:
    postgres = Postgres()
    postgres.errors = [DatabaseAway("refused"), DatabaseAway("refused")]
    batcher = batcher_over(postgres)
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(5)), return_exceptions=True)
    assert [type(one) for one in answers] == [DatabaseAway] * 5
    assert await batcher.submit(6) == "answer 6", "and the next batch is tried again"


async def test_a_postgres_that_is_silent_is_not_asked_twice() -> None:
    postgres = Postgres()
    away = DatabaseAway("no answer")
    away.__cause__ = TimeoutError()
    postgres.errors = [away]
    with pytest.raises(DatabaseAway):
        await batcher_over(postgres).submit(1)
    assert postgres.batches == [[1]]


async def test_a_mistake_of_ours_reaches_the_item_that_meets_it_and_no_other() -> None:
    async def execute(items: Sequence[int]) -> Sequence[str]:
        return [{1: "one", 3: "three"}[item] for item in items]

    batcher = Batcher("test", execute, Heard())
    answers = await asyncio.gather(*map(batcher.submit, (1, 2, 3)), return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == ("one", KeyError, "three")


async def test_an_asker_that_is_gone_disturbs_nobody() -> None:
    postgres = Postgres()
    postgres.gate.clear()
    batcher = batcher_over(postgres)
    gone, there = batcher.submit(1), batcher.submit(2)
    await postgres.asked.wait()
    gone.cancel()
    postgres.gate.set()
    assert await there == "answer 2"
    assert postgres.batches == [[1, 2]], "the item was on its way"


async def test_idle_waits_for_what_is_under_way() -> None:
    postgres = Postgres()
    postgres.gate.clear()
    batcher = batcher_over(postgres)
    await batcher.idle()
    answer = batcher.submit(1)
    idle = asyncio.create_task(batcher.idle())
    await postgres.asked.wait()
    assert not idle.done()
    postgres.gate.set()
    await idle
    assert answer.done()


async def test_each_flush_is_told_to_the_listener() -> None:
    postgres, heard = Postgres(), Heard()
    postgres.errors = [DatabaseAway("x")]
    batcher: Batcher[int, str] = Batcher("claim", postgres.execute, heard)
    await batcher.submit(1)
    flushes = [event for event in heard.events if isinstance(event, BatchFlushed)]
    assert [(one.statement, one.size, one.result) for one in flushes] == [
        ("claim", 1, "failed"),
        ("claim", 1, "done"),
    ]
