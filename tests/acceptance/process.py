"""A `campaign-worker run` or `track` as a process of its own: signals, log lines, HTTP answers."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from campaign_worker.embedded.process import ChildProcess
from tests.support import clean_environment, eventually, free_port

START_SECONDS = 20.0
HTTP = aiohttp.ClientTimeout(total=2.0)

_MAIN = "from campaign_worker.__main__ import main\nmain()"


class WorkerProcess:
    """One worker; `env` holds its settings. stdout and stderr go to one file.

    `before`: Python that its process runs first, to bring a fault with it. `command`: run or track.
    """

    def __init__(
        self,
        name: str,
        env: Mapping[str, str],
        folder: Path,
        *,
        before: str = "",
        command: str = "run",
    ) -> None:
        self.name = name
        self.port = free_port()
        folder.mkdir(parents=True)
        self._process = ChildProcess(
            name,
            [sys.executable, "-c", f"{before}\n{_MAIN}", command],
            folder / "worker.log",
            env=clean_environment({**env, "PORT": str(self.port), "INSTANCE_ID": name}),
            # Where no .env of a developer lies.
            cwd=folder,
        )

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process.running

    def send(self, number: signal.Signals) -> None:
        """Send a signal and return at once."""
        self._process.send(number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.thaw()

    async def kill(self) -> None:
        """SIGKILL, as a crash; returns when it is gone."""
        await self._process.kill()

    async def ended(self, timeout_seconds: float = 20.0) -> int:
        """Wait for its end; the exit code (negative: the signal)."""
        over = await self._process.wait(timeout_seconds=timeout_seconds)
        assert over, f"{self.name} still runs after {timeout_seconds:g} s:\n{self.tail()}"
        code = self._process.returncode
        assert code is not None
        return code

    async def ready(self) -> None:
        """Wait until /ready and /health say 200."""

        async def answers() -> bool:
            assert self.running, f"{self.name} ended:\n{self.tail()}"
            return await self.status("/ready") == await self.status("/health") == 200

        await eventually(answers, START_SECONDS, says=f"{self.name} is ready")

    async def status(self, path: str) -> int | None:
        """Return the HTTP status of a path, None when nobody answers."""
        answer = await self._get(path)
        return None if answer is None else answer[0]

    async def health(self) -> dict[str, Any]:
        """Return what /health says, {} when nobody answers."""
        answer = await self._get("/health")
        return {} if answer is None else json.loads(answer[1])

    async def in_flight(self, count: int) -> None:
        """Wait until it has so many jobs in hand."""

        async def has() -> bool:
            return bool((await self.health()).get("in_flight") == count)

        await eventually(has, says=f"{self.name} has {count} jobs in flight")

    async def metric(self, sample: str) -> float:
        """Return the value of a line of /metrics, 0 where there is none."""
        answer = await self._get("/metrics")
        assert answer is not None
        for line in answer[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0

    @property
    def output(self) -> str:
        """All that it wrote, to stdout and stderr."""
        try:
            return self._process.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def tail(self) -> str:
        """Return the end of its output."""
        return self.output[-3000:]

    def records(self, message: str | None = None) -> list[dict[str, Any]]:
        """Return its JSON log lines, all or those with this message."""
        found = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [one for one in found if message in (None, one["message"])]

    def plain_lines(self) -> list[str]:
        """Return the lines that are no log lines: what a person reads on stderr."""
        return [line for line in self.output.splitlines() if not line.startswith("{")]

    async def says(self, message: str, timeout_seconds: float = 10.0, **fields: Any) -> None:
        """Wait for a log line with this message and these fields."""

        def said() -> bool:
            return any(fields.items() <= one.items() for one in self.records(message))

        await eventually(said, timeout_seconds, says=f"{self.name} says {message} {fields}")

    @property
    def last_words(self) -> dict[str, Any]:
        """Return the "worker stopped" line."""
        (words,) = self.records("worker stopped")
        return words

    async def _get(self, path: str) -> tuple[int, str] | None:
        try:
            async with (
                aiohttp.ClientSession(timeout=HTTP) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
