"""Whose time a worker goes by: Redis' alone, whatever is done to the clock of its machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from tests.integration.queue.conftest import Inspector
from tests.support import eventually

# A machine whose clock is set while its worker runs; uvloop and asyncio do not look at it.
WORKER = """
import asyncio, json, os, time
from campaign_worker.queue import Worker

given = json.loads(os.environ["INPUT"])
true_time = time.time

async def process(job, token):
    if job.id == "j0":
        time.time = lambda: true_time() + given["seconds"]

async def main():
    worker = Worker("mails", process, {"connection": given["url"], "prefix": given["prefix"]})
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_a_clock_that_is_set_lets_no_job_run_before_or_after_its_time(
    queue: Inspector, redis_url: str, prefix: str, seconds: int
) -> None:
    await queue.add(1)
    given = json.dumps({"url": redis_url, "prefix": prefix, "seconds": seconds})
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", WORKER], env={**os.environ, "INPUT": given}
    )
    try:
        await eventually(lambda: queue.has(completed=1), 10)
        await queue.producer.add("mail", {}, job_id="in half an hour", delay_ms=1_800_000)
        await queue.producer.add("mail", {}, job_id="soon", delay_ms=20)
        await queue.producer.add("mail", {}, job_id="now")
        await eventually(lambda: queue.has(completed=3, delayed=1))
    finally:
        process.kill()
        await process.wait()
