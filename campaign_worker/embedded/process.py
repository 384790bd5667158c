"""One child process and whatever it forks: start, wait, stop, kill, freeze. Knows no protocol.

A child lives in a session of its own (a Ctrl-C at the terminal does not reach it) and ends with
us: by PR_SET_PDEATHSIG on Linux whatever ends us, by atexit elsewhere.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from campaign_worker.embedded.guard import FreezeGuard
from campaign_worker.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from campaign_worker.embedded.account import Account

POLL_SECONDS = 0.01
KILL_SECONDS = 10.0
LOG_TAIL_CHARS = 2000

_LAUNCHER = Path(__file__).with_name("_launch.py")
_live: set[ChildProcess] = set()


class ChildProcess:
    """A child process with its descendants.

    Start it from a thread that lives as long as the child shall (the main thread): the kernel
    takes the end of the starting thread for the death of the parent (prctl(2)).
    Output goes to `log_path`, so that no pipe can fill.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        account: Account | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log_path = log_path
        self.stop_signal = stop_signal
        self._account = account
        self._env = env
        self._cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None
        self._guard: FreezeGuard | None = None

    @property
    def pid(self) -> int:
        """The process id; EmbeddedServerError when it was never started."""
        if self._popen is None:
            raise EmbeddedServerError(self.name, "is not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal), None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Fork and execute; returns before the server is ready."""
        if self.running:
            raise EmbeddedServerError(self.name, "is already running")
        uid, gid = (self._account.uid, self._account.gid) if self._account else (-1, -1)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(uid)]
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own launcher, no shell
                [*launcher, str(gid), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._env is None else dict(self._env),
                cwd=self._cwd,
                start_new_session=True,
            )
        _live.add(self)

    async def wait_ready(
        self, probe: Callable[[], Awaitable[bool]], *, timeout_seconds: float
    ) -> None:
        """Probe until it says true.

        Raises EmbeddedServerError with the end of the log when the process ends or time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        while not await probe():
            if not self.running:
                raise EmbeddedServerError(
                    self.name, f"ended with {self.returncode} at start: {self.log_tail()}"
                )
            if time.monotonic() >= deadline:
                raise EmbeddedServerError(
                    self.name, f"not ready after {timeout_seconds:g} s: {self.log_tail()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def wait(self, *, timeout_seconds: float) -> bool:
        """Wait for the end of the process; False when it still runs after that time."""
        deadline = time.monotonic() + timeout_seconds
        while self.running:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def stop(
        self, *, timeout_seconds: float = 10.0, with_signal: signal.Signals | None = None
    ) -> None:
        """Ask it to end and wait; SIGKILL after `timeout_seconds`. Idempotent."""
        family = self.family()
        if self.running:
            self.thaw()
            self._signal(with_signal or self.stop_signal)
            try:
                await self.wait(timeout_seconds=timeout_seconds)
            except asyncio.CancelledError:
                self.kill_now()
                raise
        await self._reap(family)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal and return at once; nothing happens when it has ended."""
        self._signal(number)

    async def kill(self) -> None:
        """SIGKILL the process and all its descendants; returns when none is left. Idempotent."""
        family = self.family()
        self.kill_now()
        await self._reap(family)

    def kill_now(self) -> None:
        """SIGKILL the whole family and wait for the child itself, without an event loop."""
        family = self.family()
        self._signal(signal.SIGKILL)
        _signal_all(family, signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait(KILL_SECONDS)
        self._unguard()
        _live.discard(self)

    def freeze(self) -> None:
        """SIGSTOP the whole family: connections stay open, nothing answers. Idempotent."""
        self._unguard()
        stopped: set[int] = set()
        # A process not yet stopped may still fork, hence until nobody new appears.
        while fresh := [one for one in self.family() if one.pid not in stopped]:
            _signal_all(fresh, signal.SIGSTOP)
            stopped.update(one.pid for one in fresh)
        self._guard = FreezeGuard(sorted(stopped))

    def thaw(self) -> None:
        """SIGCONT the whole family; harmless when it is not frozen."""
        self._unguard()
        _signal_all(self.family(), signal.SIGCONT)

    def family(self) -> list[psutil.Process]:
        """Return the process and its living descendants, itself first; empty when it ended."""
        if not self.running:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        return []

    def log_tail(self) -> str:
        """Return the end of what the process wrote."""
        try:
            return self.log_path.read_text(errors="replace")[-LOG_TAIL_CHARS:].strip()
        except OSError:
            return ""

    def _unguard(self) -> None:
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    async def _reap(self, family: list[psutil.Process]) -> None:
        """See to it that neither the child nor a member of its family remains."""
        deadline = time.monotonic() + KILL_SECONDS
        while self.running or any(_alive(one) for one in family):
            self._signal(signal.SIGKILL)
            _signal_all(family, signal.SIGKILL)
            if time.monotonic() >= deadline:
                raise EmbeddedServerError(self.name, "did not end on SIGKILL")
            await asyncio.sleep(POLL_SECONDS)
        self._unguard()
        _live.discard(self)


def _signal_all(family: list[psutil.Process], number: signal.Signals) -> None:
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(number)


def _alive(one: psutil.Process) -> bool:
    """Tell life from death; a zombie is dead, only its parent (maybe not we) can collect it."""
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill_all(owner: int) -> None:
    # A forked copy of us inherits this hook, but not the children.
    if os.getpid() == owner:
        for child in tuple(_live):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.kill_now()


atexit.register(_kill_all, os.getpid())
