"""The two measurements, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import redis.asyncio

from campaign_worker.embedded.server import free_port
from campaign_worker.embedded.stack import EmbeddedStack
from campaign_worker.queue import Job, Producer, Worker
from campaign_worker.storage.migrate import migrate
from shutdown import Deadline
from tests.support import clean_environment

QUEUE = "bench-stop"
STEP_SECONDS = 30.0


async def idle_exit_seconds(stack: EmbeddedStack, folder: Path, runs: int) -> list[float]:
    """Start a worker, wait until it says that it is ready, and time its end, again and again."""
    await migrate(stack.database_url)
    found = []
    for _ in range(runs):
        async with _worker(stack, folder) as process:
            async with asyncio.timeout(STEP_SECONDS):
                while b'"message": "ready"' not in await _line(process):
                    pass
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                code = await process.wait()
            found.append(time.monotonic() - began)
            if code != 0:
                raise RuntimeError(f"the worker ended with {code}")
    return found


async def _line(process: asyncio.subprocess.Process) -> bytes:
    line = await process.stdout.readline() if process.stdout is not None else b""
    if not line:
        raise RuntimeError("the worker ended before it was ready")
    return line


async def hand_back_seconds(redis_url: str, runs: int) -> list[float]:
    """Have one worker hand its job back to an idle one, and time how long it lies there."""
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    try:
        return [await _hand_back(client, redis_url, f"job-{number}") for number in range(runs)]
    finally:
        await client.aclose()


async def _hand_back(client: redis.asyncio.Redis, url: str, job_id: str) -> float:
    started, again = asyncio.Event(), asyncio.Event()

    async def hold(job: Job, token: str) -> None:  # noqa: ARG001 - the worker's call
        started.set()
        await asyncio.Event().wait()

    async def take(job: Job, token: str) -> None:  # noqa: ARG001
        again.set()

    async with asyncio.timeout(STEP_SECONDS):
        old = Worker(QUEUE, hold, {"connection": url})
        await Producer(client, QUEUE).add("mail", {}, job_id=job_id)
        await started.wait()
        rival = Worker(QUEUE, take, {"connection": url})
        await rival.wait_until_ready()
        # It has claimed in vain and blocks by then.
        await asyncio.sleep(0.05)
        old.quiet()
        began = time.monotonic()
        handing = asyncio.create_task(old.hand_back(Deadline.after(2)))
        await again.wait()
        seconds = time.monotonic() - began
        await handing
        await asyncio.gather(old.close(force=True), rival.close())
    return seconds


@contextlib.asynccontextmanager
async def _worker(stack: EmbeddedStack, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    env = {
        "REDIS_URL": stack.redis_url,
        "DATABASE_URL": stack.database_url,
        "SMTP_URL": stack.smtp_url,
        "MAIL_FROM": "bench@example.org",
        "EHLO_NAME": "bench.example.org",
        "LOG_FORMAT": "json",
        "PORT": str(free_port()),
    }
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "campaign_worker", "run"],
        env=clean_environment(env),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
