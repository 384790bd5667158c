"""A Redis that answers and takes no writes: full, a replica, without replicas, without a disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from campaign_worker.embedded.redis import RedisServer
from campaign_worker.errors import JobNotHeld, RedisAway
from campaign_worker.queue import AbortSignal, Job, Producer, WaitingError, Worker
from campaign_worker.queue.refusals import is_away
from shutdown import Deadline
from tests.integration.queue.conftest import Events, Inspector
from tests.support import eventually

LOCK_MS = 600


@dataclass(frozen=True, slots=True)
class Unwilling:
    """A server of its own, and how it is made to refuse writes and to take them again."""

    server: RedisServer
    client: redis.asyncio.Redis
    queue: Inspector

    async def refuse(self, why: str) -> None:
        match why:
            case "full":
                await self.client.config_set("maxmemory", "1")
            case "no replicas":
                await self.client.config_set("min-replicas-to-write", "1")
            case "replica":
                await self.client.slaveof("127.0.0.1", 1)
            case _:
                await self._lose_the_disk()

    async def heal(self) -> None:
        await self.client.config_set("maxmemory", "0")
        await self.client.config_set("min-replicas-to-write", "0")
        await self.client.config_set("stop-writes-on-bgsave-error", "no")
        await self.client.slaveof()

    async def _lose_the_disk(self) -> None:
        folder = self.server.data_dir / "gone"
        folder.mkdir()
        await self.client.config_set("dir", str(folder))
        await self.client.config_set("save", "3600 1")
        folder.rmdir()
        await self.client.bgsave()
        await eventually(self._without_disk)

    async def _without_disk(self) -> bool:
        return bool((await self.client.info("persistence"))["rdb_last_bgsave_status"] == "err")


@pytest.fixture
async def unwilling(
    own_redis: Callable[..., Awaitable[RedisServer]],
) -> AsyncIterator[Unwilling]:
    server = await own_redis(settings={"enable-protected-configs": "yes"})
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    yield Unwilling(server, client, Inspector(client, "bull"))
    # A server that cannot save does not end on SIGTERM.
    await client.config_set("save", "")
    await client.aclose()


def worker_at(unwilling: Unwilling, processor: Any, **opts: Any) -> Worker:
    return Worker("mails", processor, {"connection": unwilling.server.url, **opts})


class Held:
    """A processor that waits to be let go."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.go = asyncio.Event()
        self.signal: AbortSignal | None = None

    async def __call__(self, _job: Job, _token: str, signal: AbortSignal) -> str:
        self.signal = signal
        self.running.set()
        await self.go.wait()
        return "done"


@pytest.mark.parametrize(("why", "seconds"), [("disk", 3.5), ("replica", 1.0)])
async def test_a_finish_that_redis_refuses_is_written_when_it_takes_writes_again(
    unwilling: Unwilling, why: str, seconds: float
) -> None:
    """For longer than five rejections take (3 s), with locks that ran out meanwhile."""
    held = Held()
    worker = worker_at(unwilling, held, lockDuration=LOCK_MS, stalledInterval=500)
    await unwilling.queue.add(1)
    await held.running.wait()
    await unwilling.refuse(why)
    held.go.set()
    healed_at = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() > healed_at, 5)
    assert worker.active_jobs == 1
    await unwilling.heal()
    await eventually(lambda: worker.active_jobs == 0)
    await worker.close()
    assert await unwilling.queue.counts() == {"completed": 1}
    job = await unwilling.queue.job("j0")
    assert (job["returnvalue"], job.get("stc"), job["ats"]) == ('"done"', None, "1")


@pytest.mark.parametrize("how", ["deadline", "patiently"])
async def test_a_stop_does_not_wait_for_a_redis_that_takes_no_writes(
    unwilling: Unwilling, how: str
) -> None:
    held = Held()
    worker = worker_at(unwilling, held)
    await unwilling.queue.add(1)
    await held.running.wait()
    await unwilling.refuse("no replicas")
    held.go.set()
    deadline = Deadline.after(0.5) if how == "deadline" else None
    await asyncio.wait_for(worker.close(deadline=deadline), 20)
    assert worker.active_jobs == 0
    assert await unwilling.queue.counts() == {"active": 1}


async def test_a_full_redis_keeps_the_locks_of_running_jobs(unwilling: Unwilling) -> None:
    held = Held()
    worker = worker_at(unwilling, held, lockDuration=LOCK_MS)
    await unwilling.queue.add(1)
    await held.running.wait()
    await unwilling.refuse("full")
    later = time.monotonic() + 2 * LOCK_MS / 1000
    await eventually(lambda: time.monotonic() > later)
    assert held.signal is not None
    assert held.signal.reason is None
    assert await unwilling.queue.lock("j0") is not None
    held.go.set()
    await eventually(lambda: worker.active_jobs == 0)
    await worker.close()
    assert await unwilling.queue.counts() == {"completed": 1}


async def test_a_job_that_gives_itself_back_to_a_full_redis_is_not_lost(
    unwilling: Unwilling,
) -> None:
    moved: list[str] = []

    async def process(job: Job, _token: str) -> None:
        await unwilling.refuse("full")
        await job.move_to_wait()
        moved.append(job.id)
        raise WaitingError

    await unwilling.queue.add(2)
    worker = worker_at(unwilling, process)
    errors = Events(worker, "error")
    await eventually(lambda: moved)
    worker.quiet()
    await worker.close()
    assert moved == ["j0"]
    assert [error for (error,) in errors.of("error") if isinstance(error, JobNotHeld)] == []
    assert await unwilling.queue.counts() == {"waiting": 2}


async def test_a_worker_comes_back_to_a_full_redis_and_its_jobs_end(unwilling: Unwilling) -> None:
    held = Held()
    worker = worker_at(unwilling, held)
    await unwilling.queue.add(2)
    await held.running.wait()
    await unwilling.refuse("full")
    await unwilling.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    worker.quiet()
    held.go.set()
    await eventually(lambda: worker.active_jobs == 0)
    await worker.close()
    assert await unwilling.queue.counts() == {"completed": 1, "waiting": 1}


@pytest.mark.parametrize("why", ["full", "no replicas", "disk", "replica"])
async def test_a_producer_says_that_a_redis_is_away_which_takes_no_writes(
    unwilling: Unwilling, why: str
) -> None:
    producer = Producer(unwilling.client, "mails")
    await unwilling.refuse(why)
    with pytest.raises(RedisAway):
        await producer.add("mail", {}, job_id="one")
    await unwilling.heal()
    assert await producer.add("mail", {}, job_id="one") == "one"


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("BUSY Redis is busy running a script.", True),
        ("Error running script (call to f_0a): @user_script:14: @user_script: 14: -OOM no", True),
        ("WRONGTYPE Operation against a key", False),
        ("Error running script (call to f_0a): @user_script:14: attempt to index a nil", False),
        ("BUSYGROUP Consumer Group name already exists", False),
    ],
)
def test_a_refusal_is_judged_by_its_code(text: str, *, away: bool) -> None:
    assert is_away(ResponseError(text)) is away
