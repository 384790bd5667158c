"""Starts worker processes, ours or the package's, and listens to what they say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from tests.integration.queue.conftest import Inspector
from tests.support import eventually

PROGRAM = Path(__file__).with_name("contender.py")
ROOT = Path(__file__).parents[2]
#: Longer than anything takes that goes right.
ENOUGH_SECONDS = 2.0


class WorkerProcess:
    """A running contender; `said` has its lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls,
        worker: str,
        url: str,
        prefix: str,
        *,
        clock_ahead: float = 0,
        listener: bool = False,
        **options: Any,
    ) -> AsyncIterator[Self]:
        """Start it, wait until it has built its worker; at the end it is killed."""
        given = {
            "worker": worker,
            "url": url,
            "prefix": prefix,
            "options": options,
            "clock_ahead": clock_ahead,
            "listener": listener,
        }
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, str(PROGRAM)],
            env={**os.environ, "INPUT": json.dumps(given), "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # The package prints tracebacks of what it does not expect.
            stderr=asyncio.subprocess.DEVNULL,
        )
        contender = cls(process)
        reading = asyncio.create_task(contender._read())
        try:
            await contender.says("ready", 10)
            yield contender
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            reading.cancel()
            await asyncio.wait([reading])

    def of(self, key: str, value: Any = None) -> list[dict[str, Any]]:
        """Return the lines that have `key`, with this value if one is given."""
        return [line for line in self.said if key in line and value in {None, line[key]}]

    async def says(self, key: str, timeout_seconds: float = 5.0, *, times: int = 1) -> bool:
        """Wait for lines with `key`; False when they do not come in time."""
        with contextlib.suppress(AssertionError):
            return bool(await eventually(lambda: len(self.of(key)) >= times, timeout_seconds))
        return False

    async def close(self, timeout_seconds: float = 10.0) -> bool:
        """Ask it to close; True when it did in time."""
        self.ask_to_close()
        return await self.says("closed", timeout_seconds)

    def ask_to_close(self) -> None:
        """Ask it to close."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"close\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))


async def add(queue: Inspector, job_id: str, data: Any, **opts: Any) -> None:
    """Add one job."""
    await queue.producer.add("mail", data, job_id=job_id, opts=opts)


async def settled(queue: Inspector, seconds: float = ENOUGH_SECONDS, **expected: int) -> bool:
    """Tell whether the queue comes to hold exactly these jobs, by state."""

    async def so() -> bool:
        return await queue.counts() == expected

    try:
        return await eventually(so, seconds)
    except AssertionError:
        return False


async def blocked(queue: Inspector) -> bool:
    """Tell whether a worker sleeps until it is woken."""
    return any("b" in client["flags"] for client in await queue.client.client_list())


async def claimed(queue: Inspector, job_id: str) -> bool:
    """Tell whether a job was ever claimed."""
    return "ats" in await queue.job(job_id)
