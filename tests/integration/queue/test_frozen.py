"""A process that is stopped for longer than its locks live, and then goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.integration.queue.conftest import Inspector, StartWorker
from tests.support import eventually

if TYPE_CHECKING:
    from campaign_worker.queue import Job

OLD_WORKER = """
import asyncio, contextlib, json, os
import redis.asyncio
from campaign_worker.queue import Worker

async def main():
    given = json.loads(os.environ["INPUT"])
    client = redis.asyncio.Redis.from_url(given["url"], decode_responses=True)
    ended = asyncio.Event()

    async def process(job, token, signal):
        try:
            while not signal.aborted:
                await client.rpush(given["ticks"], "tick")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.03):
                        await signal.wait()
        finally:
            await client.set(given["reason"], str(signal.reason))
            ended.set()

    opts = {"connection": given["url"], "prefix": given["prefix"]}
    opts |= {"lockDuration": 400, "stalledInterval": 200}
    worker = Worker("mails", process, opts)
    await ended.wait()
    await worker.close()
    await client.aclose()

asyncio.run(main())
"""


async def test_a_job_of_a_process_that_was_frozen_does_nothing_more_when_it_thaws(
    queue: Inspector, start_worker: StartWorker, redis_url: str, prefix: str
) -> None:
    ticks, reason = f"{prefix}:ticks", f"{prefix}:reason"
    given = {"url": redis_url, "prefix": prefix, "ticks": ticks, "reason": reason}
    await queue.add(attempts=3)
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", OLD_WORKER], env={**os.environ, "INPUT": json.dumps(given)}
    )
    try:
        await eventually(lambda: _length(queue, ticks, 5), 10)
        process.send_signal(signal.SIGSTOP)

        async def finish(job: Job, token: str) -> str:
            return "by the other"

        start_worker(finish, stalledInterval=200)
        await eventually(lambda: _completed(queue))
        seen = await queue.client.llen(ticks)
        process.send_signal(signal.SIGCONT)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert await queue.client.llen(ticks) == seen
    assert await queue.client.get(reason) == "AbortReason.LOCK_LOST"
    job = await queue.job("j0")
    assert (job["returnvalue"], job["atm"], job["stc"]) == ('"by the other"', "1", "1")


async def _length(queue: Inspector, key: str, least: int) -> bool:
    return await queue.client.llen(key) >= least


async def _completed(queue: Inspector) -> bool:
    return await queue.counts() == {"completed": 1}
