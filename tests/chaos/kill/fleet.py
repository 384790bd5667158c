"""Workers as forks of warm parents: started in milliseconds, killed at a moment we choose."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from shutdown import ExitCode
from tests.support import clean_environment, eventually, free_port

LINE_LIMIT = 1 << 20
END_SECONDS = 60.0
CLOCK_SLACK_SECONDS = 10.0


class Warm:
    """A parent whose workers' wall clocks are wrong by so many seconds."""

    def __init__(self, clock_seconds: float) -> None:
        self.clock_seconds = clock_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Start the parent; it answers when it is warm."""
        self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "tests.chaos.kill.warm", str(self.clock_seconds)],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env=clean_environment({}),
            limit=LINE_LIMIT,
        )
        wrong_by = await self.ask("time") - time.time()
        assert abs(wrong_by - self.clock_seconds) < CLOCK_SLACK_SECONDS, wrong_by

    async def close(self) -> None:
        """End the parent and its children."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        await process.wait()
        # asyncio closes the pipes of a process when it is told of its end.
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()

    async def ask(self, *words: Any) -> Any:
        """Send one line, return its answer."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        async with self._asking:
            process.stdin.write(json.dumps(words).encode() + b"\n")
            return json.loads(await process.stdout.readline())


class Member:
    """One worker process. `name` is its instance and what it calls itself to SMTP servers."""

    def __init__(self, name: str, pid: int, folder: Path, warm: Warm) -> None:
        self.name = name
        self.pid = pid
        self.folder = folder
        self.warm = warm
        self.killed = False
        self.retired = False
        self.code: int | None = None

    @property
    def running(self) -> bool:
        """Whether nobody has ended it, as far as we know."""
        return not self.killed and self.code is None

    def kill(self) -> bool:
        """SIGKILL at this very moment; False when it was over before."""
        if not self.running:
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.killed = True
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.running:
            os.kill(self.pid, number)

    async def look(self) -> None:
        """See whether it is over, which frees its pid."""
        if self.code is None:
            self.code = await self.warm.ask("reap", self.pid)

    @property
    def output(self) -> str:
        """All that it wrote."""
        try:
            return (self.folder / "worker.log").read_text(errors="replace")
        except OSError:
            return ""


class Fleet:
    """Starts and ends workers of one environment; `async with Fleet(...)`.

    `clocks`: by how many seconds workers' clocks are wrong; as many workers have the one as the
    other.
    """

    def __init__(
        self, env: Mapping[str, str], folder: Path, *, clocks: Sequence[float] = (0.0,)
    ) -> None:
        self.env = dict(env)
        self.members: dict[str, Member] = {}
        """All that are not over, by name."""
        self._folder = folder
        self._numbers = itertools.count(1)
        self._warm = [Warm(seconds) for seconds in clocks]

    async def __aenter__(self) -> Self:
        for warm in self._warm:
            await warm.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for warm in self._warm:
            await warm.close()

    @property
    def living(self) -> list[Member]:
        """Those that nobody has ended, as far as we know."""
        return [member for member in self.members.values() if member.running]

    async def start(self, settings_of: Callable[[str], Awaitable[dict[str, str]]]) -> Member:
        """Fork one more worker; it is not ready yet."""
        name = f"w{next(self._numbers)}.chaos.test"
        folder = self._folder / name
        folder.mkdir(parents=True)
        own = {"INSTANCE_ID": name, "EHLO_NAME": name, "PORT": str(free_port())}
        own |= await settings_of(name)
        at_work = [member.warm for member in self.living]
        warm = min(self._warm, key=at_work.count)
        pid = await warm.ask("start", clean_environment({**self.env, **own}), str(folder))
        self.members[name] = Member(name, pid, folder, warm)
        return self.members[name]

    async def ended(self, member: Member) -> int:
        """Wait until it is over; its exit code, negative for a signal."""

        async def over() -> bool:
            await member.look()
            return member.code is not None

        await eventually(over, END_SECONDS, says=f"{member.name} is over")
        self.members.pop(member.name, None)
        assert member.code is not None
        return member.code

    async def check(self) -> list[Member]:
        """Return the workers that live; one that ended by itself is a fault of ours."""
        for member in tuple(self.members.values()):
            await member.look()
            if member.code is None:
                continue
            del self.members[member.name]
            # Its port was free when we chose it, and somebody was faster.
            outrun = member.code == ExitCode.SETTINGS and "is already in use" in member.output
            if not (member.killed or member.retired or outrun):
                raise AssertionError(f"{member.name} ended with {member.code}:\n{member.output}")
        return self.living
