"""What tests share: waiting for a condition, and running the command line."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from campaign_worker.embedded.server import free_port
from tests.fixtures.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

__all__ = ["CliResult", "TcpProxy", "eventually", "free_port", "run_cli", "start_cli"]

POLL_SECONDS = 0.01
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")
T = TypeVar("T")


@overload
async def eventually(
    predicate: Callable[[], Coroutine[Any, Any, T]], timeout_seconds: float = 5.0, *, says: str = ""
) -> T: ...


@overload
async def eventually(
    predicate: Callable[[], T], timeout_seconds: float = 5.0, *, says: str = ""
) -> T: ...


async def eventually(
    predicate: Callable[[], Any], timeout_seconds: float = 5.0, *, says: str = ""
) -> Any:
    """Poll until the predicate (sync or async) is truthy and return its value.

    An AssertionError inside the predicate counts as "not yet". Raises AssertionError at the end
    of the time, with the last value. The only place where a test may sleep.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            outcome = predicate()
            value = await outcome if inspect.isawaitable(outcome) else outcome
            if value:
                return value
            seen = repr(value)
        except AssertionError as error:
            seen = f"AssertionError: {error}"
        if time.monotonic() >= deadline:
            what = says or getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"not within {timeout_seconds:g} s: {what}; last: {seen}")
        await asyncio.sleep(POLL_SECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class CliResult:
    """What a command left: exit code and its two outputs as text."""

    code: int
    stdout: str
    stderr: str


async def start_cli(
    *arguments: str, env: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start `campaign-worker ARGUMENTS` with pipes; `env` is added to a clean environment.

    The caller ends it: `process.send_signal(...)`, `await process.communicate()`.
    """
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "campaign_worker", *arguments],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(env or {}),
    )


async def run_cli(
    *arguments: str, env: Mapping[str, str] | None = None, timeout_seconds: float = 30.0
) -> CliResult:
    """Run `campaign-worker ARGUMENTS` to its end; SIGKILL and TimeoutError when it takes longer."""
    process = await start_cli(*arguments, env=env)
    try:
        async with asyncio.timeout(timeout_seconds):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    code = -1 if process.returncode is None else process.returncode
    return CliResult(code, stdout.decode(), stderr.decode())


def clean_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without anything that a setting could come from, plus `added`."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(added)
