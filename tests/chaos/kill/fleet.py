"""Workers as forks of one warm parent: started in milliseconds, killed at a moment we choose."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.support import clean_environment, eventually, free_port

LINE_LIMIT = 1 << 20
END_SECONDS = 30.0


class Member:
    """One worker process. `name` is its instance and what it calls itself to SMTP servers."""

    def __init__(self, name: str, pid: int, folder: Path, port: int) -> None:
        self.name = name
        self.pid = pid
        self.folder = folder
        self.port = port
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

    @property
    def output(self) -> str:
        """All that it wrote."""
        try:
            return (self.folder / "worker.log").read_text(errors="replace")
        except OSError:
            return ""

    @property
    def ready(self) -> bool:
        """Whether it has said that it takes jobs."""
        return '"ready"' in self.output


class Fleet:
    """Starts and ends workers of one environment; `async with Fleet(...)`."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env = dict(env)
        self.members: list[Member] = []
        self._folder = folder
        self._numbers = itertools.count(1)
        self._warm: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._warm = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "tests.chaos.kill.warm"],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env=clean_environment({}),
            limit=LINE_LIMIT,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        warm = self._warm
        if warm is None or warm.stdin is None:
            return
        warm.stdin.close()
        await warm.wait()
        # asyncio closes the pipes of a process when it is told of its end.
        with contextlib.suppress(OSError):
            await warm.stdin.wait_closed()

    async def start(
        self, settings_of: Callable[[str], Awaitable[dict[str, str]]] | None = None
    ) -> Member:
        """Fork one more worker; it is not ready yet."""
        name = f"w{next(self._numbers)}.chaos.test"
        folder = self._folder / name
        folder.mkdir(parents=True)
        port = free_port()
        own = {"INSTANCE_ID": name, "EHLO_NAME": name, "PORT": str(port)}
        if settings_of is not None:
            own |= await settings_of(name)
        pid = await self._ask("start", clean_environment({**self.env, **own}), str(folder))
        member = Member(name, pid, folder, port)
        self.members.append(member)
        return member

    async def ended(self, member: Member) -> int:
        """Wait until it is over; its exit code, negative for a signal."""

        async def over() -> bool:
            if member.code is None:
                member.code = await self._ask("reap", member.pid)
            return member.code is not None

        await eventually(over, END_SECONDS, says=f"{member.name} is over")
        assert member.code is not None
        return member.code

    async def check(self) -> list[Member]:
        """Return the workers that live; those that ended by themselves have their code."""
        for member in self.members:
            if member.running:
                member.code = await self._ask("reap", member.pid)
        return [member for member in self.members if member.running]

    async def _ask(self, *words: Any) -> Any:
        warm = self._warm
        assert warm is not None
        assert warm.stdin is not None
        assert warm.stdout is not None
        async with self._asking:
            warm.stdin.write(json.dumps(words).encode() + b"\n")
            return json.loads(await warm.stdout.readline())
