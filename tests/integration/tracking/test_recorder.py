"""Events reach Postgres together, or Redis in time, or memory: each once, whatever is away."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from campaign_worker.errors import DatabaseAway, RedisAway
from campaign_worker.queue import ConnectionSpec
from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.storage.migrate import migrate
from campaign_worker.storage.tracking import PostgresEvents
from campaign_worker.storage.tracking_stream import RedisStream, events_key
from campaign_worker.tracking.classify import TIMING, EventKind
from campaign_worker.tracking.drain import Drainer, StreamDrain
from campaign_worker.tracking.events import Secured
from campaign_worker.tracking.recorder import Bounds, Recorder
from shutdown import Deadline
from tests.fixtures.proxy import TcpProxy
from tests.integration.storage.kit import opened, world_of
from tests.integration.tracking.kit import LONG_AFTER, Heard, Sent, Tracked, event
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from campaign_worker.embedded.postgres import PostgresServer
    from campaign_worker.embedded.redis import RedisServer
    from campaign_worker.tracking.events import TrackingEvent
    from campaign_worker.tracking.ports import Write

PATIENT = Bounds(store_seconds=5.0, answer_seconds=6.0)
"""For tests of what happens while Postgres is slow, on a machine that may be slower still."""

HASTY = Bounds(retry_seconds=0.05)


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """A recorder, what it writes to, and what it told."""

    tracked: Tracked
    recorder: Recorder
    stream: RedisStream
    heard: Heard

    def drain(self) -> StreamDrain:
        return StreamDrain("events", self.stream, self.tracked.events, self.heard)

    async def streamed(self) -> int:
        """Count the events that wait in the stream."""
        return sum(len(entry.events or ()) for entry in await self.stream.page("-", 1000))


@contextlib.asynccontextmanager
async def bench_of(
    tracked: Tracked, redis_url: str, prefix: str, bounds: Bounds = HASTY
) -> AsyncIterator[Bench]:
    client = ConnectionSpec.of(redis_url).client(socket_timeout=5.0)
    stream, heard = RedisStream(client, events_key(prefix)), Heard()
    recorder = Recorder("events", tracked.events, stream, heard, bounds)
    try:
        yield Bench(tracked, recorder, stream, heard)
    finally:
        await recorder.close(Deadline.after(2))
        await client.aclose()


@contextlib.asynccontextmanager
async def held(tracked: Tracked, sent: Sent) -> AsyncIterator[None]:
    """Hold the mail's row, so that what is written about it waits."""
    async with tracked.world.raw.transaction():
        await tracked.world.execute("SELECT FROM $messages WHERE id = $1 FOR UPDATE", sent.id)
        yield


async def until_postgres(bench: Bench, sent: Sent) -> int:
    """Record until Postgres takes an event in time, which a busy machine may delay; how many."""
    answers: list[Secured] = []

    async def taken() -> bool:
        answers.append(await bench.recorder.record(event(sent)))
        return answers[-1] is Secured.POSTGRES

    await eventually(taken, 20)
    return len(answers)


async def test_events_of_one_moment_share_a_commit(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix, PATIENT) as bench:
        answers = [bench.recorder.record(event(sent)) for _ in range(50)]
        assert set(await asyncio.gather(*answers)) == {Secured.POSTGRES}
        assert bench.heard.batches() == [50]
    assert await tracked.counts(sent) == {"open": 50, "unique_open": 1}


async def test_an_answer_comes_after_the_commit(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix, PATIENT) as bench:
        async with held(tracked, sent):
            answer = bench.recorder.record(event(sent))
            await eventually(tracked.world.somebody_waits_for_a_lock)
            assert not answer.done()
        assert await answer is Secured.POSTGRES
    assert await tracked.counts(sent) == {"open": 1, "unique_open": 1}


async def test_what_comes_while_a_batch_is_under_way_travels_in_the_next(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix, PATIENT) as bench:
        async with held(tracked, sent):
            answers = [bench.recorder.record(event(sent))]
            await eventually(tracked.world.somebody_waits_for_a_lock)
            for _ in range(5):
                answers.append(bench.recorder.record(event(sent)))
                await asyncio.sleep(0)
        await asyncio.gather(*answers)
        assert bench.heard.batches() == [1, 5]


async def test_a_batch_has_a_largest_size(tracked: Tracked, redis_url: str, prefix: str) -> None:
    sent = await tracked.sent()
    bounds = dataclasses.replace(PATIENT, batch_events=20)
    async with bench_of(tracked, redis_url, prefix, bounds) as bench:
        await asyncio.gather(*(bench.recorder.record(event(sent)) for _ in range(50)))
        assert bench.heard.batches() == [20, 20, 10]


class Noted(PostgresEvents):
    """Notes when a statement leaves."""

    log: list[str]

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Write]:
        async with super().session() as write:

            async def noted(events: Sequence[TrackingEvent]) -> None:
                self.log.append("statement")
                await write(events)

            yield noted


async def test_the_next_statement_leaves_before_the_answers_of_the_last_one(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    tracked.events = store = Noted(tracked.world.database, TIMING)
    store.log = []
    bounds = dataclasses.replace(PATIENT, batch_events=1)
    async with bench_of(tracked, redis_url, prefix, bounds) as bench:
        answers = [bench.recorder.record(event(sent)) for _ in range(3)]
        for answer in answers:
            answer.add_done_callback(lambda _: store.log.append("answer"))
        await asyncio.gather(*answers)
    # The last one has nothing to wait for.
    assert store.log == ["statement", "statement", "answer", "statement", "answer", "answer"]


async def test_postgres_is_given_up_in_time_and_the_event_is_there_once(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix) as bench:
        async with held(tracked, sent):
            began_at = time.monotonic()
            answer = await bench.recorder.record(event(sent))
            waited_seconds = time.monotonic() - began_at
            assert answer in (Secured.STREAM, Secured.UNSECURED)
            assert waited_seconds >= HASTY.store_seconds
            # Nobody waits while it is away: it is known by now.
            assert bench.recorder.store_away
            assert await bench.recorder.record(event(sent)) is not Secured.POSTGRES
        count = 2 + await until_postgres(bench, sent)
        await bench.recorder.close(Deadline.after(5))
        await bench.drain().run()
        assert await bench.streamed() == 0
    assert await tracked.counts(sent) == {"open": count, "unique_open": 1}
    await tracked.assert_true()


async def test_two_drains_beside_each_other_and_one_more_give_each_event_once(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix) as bench:
        for _ in range(60):
            await bench.stream.put([event(sent), event(sent, EventKind.CLICK)])
        page = await bench.stream.page("-", 10)
        await asyncio.gather(bench.drain().run(), bench.drain().run())
        for entry in page:
            await bench.stream.put(entry.events or ())
        await bench.drain().run()
        assert await bench.streamed() == 0
    assert await tracked.counts(sent) == {
        "open": 60,
        "click": 60,
        "unique_open": 1,
        "unique_click": 1,
    }
    await tracked.assert_true()


async def test_a_drain_takes_nothing_out_of_the_stream_before_postgres_has_it(
    tracked: Tracked, database_url: str, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with (
        bench_of(tracked, redis_url, prefix) as bench,
        TcpProxy(database_url) as proxy,
        opened(proxy.url) as database,
    ):
        await bench.stream.put([event(sent), event(sent)])
        proxy.refuse()
        drain = StreamDrain("events", bench.stream, PostgresEvents(database, TIMING), bench.heard)
        with pytest.raises(DatabaseAway):
            await drain.run()
        assert await bench.streamed() == 2
        assert await bench.drain().run() == 2
        assert await bench.streamed() == 0
    assert await tracked.counts(sent) == {"open": 2, "unique_open": 1}


async def test_an_entry_of_another_version_is_left_to_whoever_wrote_it(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix) as bench:
        client = ConnectionSpec.of(redis_url).client()
        try:
            await client.xadd(events_key(prefix), {"version": "99", "events": "?"})
            await client.xadd(events_key(prefix), {"version": "1", "events": '[["x"]]'})
        finally:
            await client.aclose()
        await bench.stream.put([event(sent)])
        assert await bench.drain().run() == 1
        assert [entry.events for entry in await bench.stream.page("-", 9)] == [None, None]


async def test_a_running_drainer_gives_what_it_finds_to_postgres_within_a_second(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix) as bench:
        drainer = Drainer(bench.drain(), every_seconds=0.05)
        await drainer.start()
        await bench.stream.put([event(sent)])
        await eventually(lambda: _counted(tracked, sent, {"open": 1, "unique_open": 1}))
        await drainer.stop()


async def _counted(tracked: Tracked, sent: Sent, expected: dict[str, int]) -> bool:
    return await tracked.counts(sent) == expected


async def test_without_redis_too_events_are_kept_and_secured_when_one_is_back(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with TcpProxy(redis_url) as proxy, bench_of(tracked, proxy.url, prefix) as bench:
        proxy.refuse()
        async with held(tracked, sent):
            answers = [bench.recorder.record(event(sent)) for _ in range(3)]
            assert set(await asyncio.gather(*answers)) == {Secured.UNSECURED}
            more = await bench.recorder.record(event(sent, after=LONG_AFTER + 1))
            assert more is Secured.UNSECURED
            await eventually(lambda: bench.recorder.kept == 1)
        await eventually(lambda: bench.recorder.kept == 0)
        await eventually(lambda: _counted(tracked, sent, {"open": 4, "unique_open": 1}))
        assert bench.heard.dropped() == 0


async def test_memory_is_bounded_and_what_does_not_fit_is_counted_and_logged(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with TcpProxy(redis_url) as proxy:
        bounds = dataclasses.replace(HASTY, kept_events=10)
        async with bench_of(tracked, proxy.url, prefix, bounds) as bench:
            proxy.refuse()
            async with held(tracked, sent):
                with capture_logs() as lines:
                    assert await bench.recorder.record(event(sent)) is Secured.UNSECURED
                    for _ in range(5):
                        for _ in range(5):
                            answer = bench.recorder.record(event(sent))
                        assert await answer is Secured.UNSECURED
                    await eventually(lambda: bench.recorder.kept == 10)
                assert bench.heard.dropped() == 15
                assert sum(line["count"] for line in lines if "dropped" in line["event"]) == 15
            await eventually(lambda: _counted(tracked, sent, {"open": 11, "unique_open": 1}))


async def test_a_stop_secures_what_is_under_way(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with bench_of(tracked, redis_url, prefix) as bench:
        async with held(tracked, sent):
            answers = [bench.recorder.record(event(sent)) for _ in range(5)]
            await bench.recorder.close(Deadline.after(5))
            assert all(answer.done() for answer in answers)
        await bench.drain().run()
        assert bench.heard.dropped() == 0
    assert await tracked.counts(sent) == {"open": 5, "unique_open": 1}


async def test_a_stop_without_any_store_is_over_in_time_and_counts_what_is_lost(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    async with TcpProxy(redis_url) as proxy, bench_of(tracked, proxy.url, prefix) as bench:
        proxy.refuse()
        async with held(tracked, sent):
            answers = [bench.recorder.record(event(sent)) for _ in range(5)]
            await bench.recorder.close(Deadline.after(0.3))
            assert {await answer for answer in answers} == {Secured.UNSECURED}
            assert bench.heard.dropped() == 5
            assert bench.recorder.kept == 0


async def test_two_recorders_at_once_lose_nothing_and_agree(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    campaign = await tracked.world.campaign(10)
    mails = [await tracked.sent(campaign, index) for index in range(10)]
    async with (
        bench_of(tracked, redis_url, prefix) as one,
        bench_of(tracked, redis_url, prefix) as other,
    ):
        answers = []
        for turn in range(20):
            for sent in mails:
                for bench, target in ((one, 1), (other, 2)):
                    hit = event(sent, EventKind.CLICK, after=LONG_AFTER + turn, target=target)
                    answers.append(bench.recorder.record(hit))
            await asyncio.sleep(0)
        assert Secured.UNSECURED not in await asyncio.gather(*answers)
        await one.recorder.close(Deadline.after(5))
        await other.recorder.close(Deadline.after(5))
        await one.drain().run()
    assert await tracked.counts(mails[0]) == {"machine_click": 400}
    await tracked.assert_true()


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_a_postgres_that_is_gone_costs_no_event(
    own_postgres: Callable[..., Awaitable[PostgresServer]],
    redis_url: str,
    prefix: str,
    how: str,
) -> None:
    server = await own_postgres()
    await migrate(server.url)
    async with world_of(server.url) as world:
        tracked = Tracked(world)
        sent = await tracked.sent()
        async with bench_of(tracked, redis_url, prefix) as bench:
            count = await until_postgres(bench, sent)
            server.freeze() if how == "frozen" else await server.kill()
            answers = [bench.recorder.record(event(sent)) for _ in range(5)]
            assert set(await asyncio.gather(*answers)) == {Secured.STREAM}
            assert await bench.recorder.record(event(sent)) is Secured.STREAM
            server.thaw() if how == "frozen" else await server.start()
            count += 6 + await until_postgres(bench, sent)
            await bench.recorder.close(Deadline.after(5))
            await bench.drain().run()
    # The app's own connection may have been cut.
    async with world_of(server.url) as world:
        assert await Tracked(world).counts(sent) == {"open": count, "unique_open": 1}
        await Tracked(world).assert_true()


async def test_a_redis_that_is_frozen_too_holds_nobody_up(
    own_redis: Callable[..., Awaitable[RedisServer]], tracked: Tracked, prefix: str
) -> None:
    server = await own_redis()
    sent = await tracked.sent()
    async with bench_of(tracked, server.database_url(1), prefix) as bench:
        await bench.stream.page("-", 1)
        server.freeze()
        try:
            async with held(tracked, sent):
                began_at = time.monotonic()
                assert await bench.recorder.record(event(sent)) is Secured.UNSECURED
                assert time.monotonic() - began_at >= HASTY.answer_seconds * 0.9
        finally:
            server.thaw()
        await eventually(lambda: _counted(tracked, sent, {"open": 1, "unique_open": 1}))


async def test_the_stores_say_that_they_are_away() -> None:
    database = Database(DatabaseOptions("postgresql://127.0.0.1:1/nothing"))
    with pytest.raises(DatabaseAway):
        await PostgresEvents(database, TIMING).write([])
    client = ConnectionSpec.of("redis://127.0.0.1:1").client()
    try:
        with pytest.raises(RedisAway):
            await RedisStream(client, "x").page("-", 1)
    finally:
        await client.aclose()
