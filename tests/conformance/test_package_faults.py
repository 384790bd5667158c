"""What the package's own Worker gets wrong and ours does not: the same steps with each.

`right` and `package` of a test are what each was seen to do; a package that has learned it makes
its half fail, and docs/conformance.md is to be changed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from tests.conformance.contenders import WorkerProcess, add, blocked, claimed, settled
from tests.fixtures.node import NodeBullMQ, connection_of
from tests.integration.queue.conftest import Inspector
from tests.support import TcpProxy, eventually

if TYPE_CHECKING:
    from campaign_worker.embedded.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("who", ["ours", "package"])]

PAUSE = """
const { Queue } = require('bullmq');
const { connection, prefix, action } = JSON.parse(process.env.INPUT);
(async () => {
  const queue = new Queue('mails', { connection, prefix });
  await (action === 'add' ? queue.add('mail', {}, { jobId: 'meanwhile' }) : queue[action]());
  await queue.close();
  console.log('{}');
})();
"""
MakeRedis = Callable[..., Awaitable["RedisServer"]]
Start = Callable[..., AbstractAsyncContextManager[WorkerProcess]]


@pytest.fixture
def queue(redis_client: redis.asyncio.Redis, prefix: str) -> Inspector:
    return Inspector(redis_client, prefix)


@pytest.fixture
def start(who: str, redis_url: str, prefix: str) -> Start:
    """Return `start(**options)`: a worker of whom the test is about, in a process of its own."""

    def started(
        *, url: str = redis_url, **options: Any
    ) -> AbstractAsyncContextManager[WorkerProcess]:
        return WorkerProcess.started(who, url, prefix, **options)

    return started


async def test_a_job_that_runs_on_while_others_close_is_not_doubled(
    queue: Inspector, start: Start, who: str
) -> None:
    options = {"concurrency": 2, "lockDuration": 600, "stalledInterval": 300}
    await add(queue, "short", {"seconds": 0.3})
    await add(queue, "long", {"seconds": 2.5})
    async with start(**options) as worker:
        assert await worker.says("started", times=2)
        async with start(**options) as rival:
            await worker.close()
            await rival.says("started", 0.1)
            runs = len(worker.of("started", "long") + rival.of("started", "long"))
    assert runs == {"ours": 1, "package": 2}[who]


async def test_a_claim_in_flight_at_close_leaves_no_job_active(
    queue: Inspector, start: Start, redis_url: str, who: str
) -> None:
    async with TcpProxy(redis_url) as proxy, start(url=proxy.url) as worker:
        await eventually(lambda: blocked(queue))
        proxy.hold_replies()
        await add(queue, "j", {"seconds": 5})
        await proxy.held_reply.wait()
        # The wake-up goes through, the reply to the claim does not.
        proxy.pass_all()
        proxy.hold_replies()
        await eventually(lambda: settled(queue, 0.1, active=1))
        worker.ask_to_close()
        assert await worker.says("closing")
        proxy.pass_all()
        assert await worker.says("closed", 8)
        await worker.process.wait()
    assert await queue.counts() == {"ours": {"waiting": 1}, "package": {"active": 1}}[who]


async def test_close_is_bounded_when_redis_is_gone(
    own_redis: MakeRedis, start: Start, prefix: str, who: str
) -> None:
    server = await own_redis()
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    await add(Inspector(client, prefix), "j", {"seconds": 0.5})
    await client.aclose()
    async with start(url=server.url) as worker:
        assert await worker.says("started")
        await server.kill()
        assert await worker.close(9) is (who == "ours")


async def test_a_lost_reply_to_a_claim_strands_no_job(
    queue: Inspector, start: Start, redis_url: str, who: str
) -> None:
    async with TcpProxy(redis_url) as proxy, start(url=proxy.url) as worker:
        await eventually(lambda: blocked(queue))
        proxy.hold_replies()
        await add(queue, "first", {})
        await proxy.held_reply.wait()
        proxy.pass_all()
        proxy.cut_on_next_reply()
        await eventually(lambda: claimed(queue, "first"))
        await add(queue, "second", {})
        await eventually(lambda: worker.of("started", "second"), 20)
        left = {"ours": {"completed": 2}, "package": {"active": 1, "completed": 1}}[who]
        assert await settled(queue, **left)


async def test_a_redis_that_comes_back_finds_an_idle_worker_within_a_second(
    own_redis: MakeRedis, start: Start, prefix: str, who: str
) -> None:
    server = await own_redis()
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    queue = Inspector(client, prefix)
    async with start(url=server.url) as worker:
        await eventually(lambda: blocked(queue))
        await server.kill()
        down = time.monotonic()
        await eventually(lambda: time.monotonic() - down > 2.5)
        await server.start()
        await client.connection_pool.disconnect()
        await add(queue, "j", {})
        assert await worker.says("started", 1.2) is (who == "ours")
    await client.aclose()


async def test_a_delayed_job_is_not_put_off_to_the_next_whole_second(
    queue: Inspector, start: Start, who: str
) -> None:
    async with start() as worker:
        await eventually(lambda: blocked(queue))
        due = time.time() + 0.3
        await queue.producer.add("mail", {}, job_id="late", delay_ms=300)
        assert await worker.says("started")
        late = worker.of("started")[0]["at"] - due
    assert (late < 0.25) is (who == "ours"), late


async def test_a_limiter_is_waited_for_as_long_as_it_lasts(
    queue: Inspector, start: Start, who: str
) -> None:
    await add(queue, "first", {})
    await add(queue, "second", {})
    async with start(limiter={"max": 1, "duration": 300}) as worker:
        assert await worker.says("started")
        assert await worker.says("started", 1.5, times=2) is (who == "ours")


async def test_an_idle_worker_does_not_fall_into_the_back_off_of_its_redis_client(
    queue: Inspector, start: Start, who: str
) -> None:
    async with start() as worker:
        await eventually(lambda: blocked(queue))
        idle = time.monotonic()
        # redis-py 8 waits 5 s for a reply, and the default block takes 5 s.
        await eventually(lambda: time.monotonic() - idle > 5.6, 7)
        added = time.time()
        await add(queue, "j", {})
        assert await worker.says("started", 20)
        late = worker.of("started")[0]["at"] - added
    assert (late < 0.25) is (who == "ours"), late


async def test_a_processor_that_raises_cancelled_error_ends_its_job_only(
    queue: Inspector, start: Start, who: str
) -> None:
    await add(queue, "cancels", {"cancel": True})
    await add(queue, "next", {})
    async with start() as worker:
        assert await worker.says("started")
        await settled(queue, failed=1, completed=1)
    expected = {"ours": {"failed": 1, "completed": 1}, "package": {"active": 1, "waiting": 1}}
    assert await queue.counts() == expected[who]


async def test_a_result_that_json_cannot_hold_fails_no_finished_job(
    queue: Inspector, start: Start, who: str
) -> None:
    await add(queue, "j", {"nan": True})
    async with start():
        state = {"ours": "completed", "package": "failed"}[who]
        assert await settled(queue, **{state: 1})


async def test_a_listener_that_throws_is_no_fault_of_its_job(
    queue: Inspector, start: Start, who: str
) -> None:
    await add(queue, "j", {})
    async with start(listener=True) as worker:
        assert await settled(queue, completed=1)
        assert await worker.says("error")
        blamed = any("Missing lock" in line["error"] for line in worker.of("error"))
    assert blamed is (who == "package")


async def test_a_blocked_event_loop_loses_no_lock(queue: Inspector, start: Start, who: str) -> None:
    options = {"lockDuration": 500, "stalledInterval": 250}
    await add(queue, "j", {"block": 1.6})
    async with start(**options) as worker:
        assert await worker.says("started")
        async with start(**options) as rival:
            await rival.says("started", 2.5)
            runs = len(worker.of("started") + rival.of("started"))
    assert runs == {"ours": 1, "package": 2}[who]


async def test_a_job_whose_lock_is_gone_is_told(queue: Inspector, start: Start, who: str) -> None:
    await add(queue, "j", {"ticks": 30})
    async with start(lockDuration=500, stalledInterval=60_000) as worker:
        assert await worker.says("tick")
        await queue.client.delete(queue.keys.lock("j"))
        assert await worker.says("aborted")
    assert (len(worker.of("tick")) < 30) is (who == "ours")


async def test_a_job_of_a_frozen_process_does_nothing_more_when_that_thaws(
    queue: Inspector, start: Start, who: str
) -> None:
    options = {"lockDuration": 400, "stalledInterval": 200}
    await add(queue, "j", {"ticks": 12})
    async with start(**options) as worker:
        assert await worker.says("tick")
        worker.process.send_signal(signal.SIGSTOP)
        async with start(**options) as rival:
            assert await rival.says("tick", times=12)
            assert await settled(queue, completed=1)
            before = len(worker.of("tick"))
            worker.process.send_signal(signal.SIGCONT)
            assert await worker.says("aborted")
            after = len(worker.of("tick"))
    # What was said before the stop may be read after it.
    assert (after - before <= 1) is (who == "ours"), (before, after)


async def test_a_replica_with_a_fast_clock_promotes_no_delayed_job_early(
    queue: Inspector, start: Start, who: str
) -> None:
    await queue.producer.add("mail", {}, job_id="later", delay_ms=60_000)
    await add(queue, "now", {})
    async with start(clock_ahead=120) as worker:
        assert await worker.says("started")
        await worker.says("started", 1, times=2)
        assert bool(worker.of("started", "later")) is (who == "package")
        await settled(queue, completed=1, delayed=1)
        off_ms = int((await queue.job("now"))["finishedOn"]) - time.time() * 1000
        assert (abs(off_ms) < 10_000) is (who == "ours")


async def test_attempts_that_bullmq_4_counted_end_retries(
    queue: Inspector, start: Start, who: str
) -> None:
    await add(queue, "j", {"fails": True}, attempts=3)
    await queue.client.hset(queue.keys.job("j"), "attemptsMade", 1)
    async with start() as worker:
        endless = await worker.says("failed", times=6, timeout_seconds=1.5)
    assert endless is (who == "package")
    assert len(worker.of("failed")) == 2 or endless


async def test_a_queue_that_bullmq_5_pauses_and_resumes_loses_no_retry(
    queue: Inspector,
    start: Start,
    redis_url: str,
    prefix: str,
    node_bullmq: Callable[[int], NodeBullMQ],
    who: str,
) -> None:
    data = {"connection": connection_of(redis_url), "prefix": prefix}
    node = node_bullmq(5)
    await add(queue, "j", {"seconds": 2.5, "fails_first": True}, attempts=2)
    async with start() as worker:
        assert await worker.says("started")
        await node.run(PAUSE, data | {"action": "pause"})
        # A job that comes while the queue is paused: `paused` is renamed over `wait` for it.
        await node.run(PAUSE, data | {"action": "add"})
        assert await worker.says("failed")
        await node.run(PAUSE, data | {"action": "resume"})
        both = await settled(queue, completed=2)
    assert both is (who == "ours")
