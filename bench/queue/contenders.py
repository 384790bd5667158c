"""Who is measured, and each one's worker process: started, let go, asked for its cost, killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.fixtures import node_packages

NODE_MAJOR = 6
READY_SECONDS = 30.0
#: clock_getcpuclockid(3): a process's CPU clock, by its pid, that counts all of its threads.
_CPU_CLOCK_KIND = 2


class Contender(enum.StrEnum):
    """A worker under measurement; the value is its key in the result."""

    OURS = "ours"
    NODE = "node"
    PACKAGE = "package"


class WorkerDied(Exception):
    """A worker process ended or did not get ready; its stderr went to ours."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker process is told, as JSON in its environment (INPUT)."""

    url: str
    queue: str
    concurrency: int
    process_ms: int = 0


class WorkerProcess:
    """`async with await WorkerProcess.start(...)`: a worker that is ready and has not begun."""

    def __init__(self, contender: Contender, process: asyncio.subprocess.Process) -> None:
        self._contender = contender
        self._process = process

    @classmethod
    async def start(cls, contender: Contender, spec: WorkerSpec) -> Self:
        """Start it and wait until its worker object stands; WorkerDied, InstallFailed."""
        command, environment = _command(contender)
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **environment, "INPUT": json.dumps(dataclasses.asdict(spec))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started = cls(contender, process)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await started._ready()
        except BaseException:
            await started.kill()
            raise
        return started

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def go(self) -> None:
        """Let the worker begin."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"go\n")

    def check(self) -> None:
        """Raise WorkerDied if it has ended."""
        if self._process.returncode is not None:
            raise WorkerDied(f"{self._contender} ended with {self._process.returncode}")

    def cpu_seconds(self) -> float:
        """CPU time that all of its threads have had, user and system."""
        if platform.system() == "Linux":
            # psutil reads it in clock ticks: far too coarse for a short run.
            return time.clock_gettime_ns((~self.pid << 3) | _CPU_CLOCK_KIND) / 1e9
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.kill()

    async def _ready(self) -> None:
        if self._process.stdout is None or await self._process.stdout.readline() != b"ready\n":
            raise WorkerDied(f"{self._contender} did not get ready")


def _command(contender: Contender) -> tuple[list[str], dict[str, str]]:
    match contender:
        case Contender.OURS | Contender.PACKAGE:
            return [sys.executable, "-m", f"bench.queue.{contender}"], {}
        case Contender.NODE:
            folder, _ = node_packages.install(NODE_MAJOR)
            script = Path(__file__).with_name("worker.cjs")
            modules = {"NODE_PATH": str(folder / "node_modules"), "NODE_ENV": "production"}
            return ["node", str(script)], modules
