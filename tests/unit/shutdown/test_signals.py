"""Signals are sent to this process itself: only what the context manager must intercept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from shutdown import Deadline, Signals, StopLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def test_the_first_signal_stamps_one_deadline_and_later_ones_only_escalate() -> None:
    seen: list[tuple[StopLevel, Deadline]] = []
    with Signals(60, lambda level, deadline: seen.append((level, deadline))) as signals:
        assert signals.level is StopLevel.NONE
        assert signals.deadline is None

        send(signal.SIGTERM)
        deadline = await signals.stop_requested()
        assert signals.level is StopLevel.DRAIN
        assert 59 < deadline.remaining() <= 60

        send(signal.SIGINT)
        await signals.escalated()
        assert signals.level is StopLevel.ABORT

        send(signal.SIGTERM)
        await signals.escalated(StopLevel.EXIT)
        send(signal.SIGTERM)
        await asyncio.sleep(0)

    assert signals.deadline is deadline
    assert seen == [(StopLevel(level), deadline) for level in (1, 2, 3, 3)]


async def test_sigtstp_means_quiet_and_nothing_else() -> None:
    with Signals(60) as signals:
        send(signal.SIGTSTP)
        await signals.quiet_requested()

        assert signals.quiet
        assert signals.level is StopLevel.NONE
        assert signals.deadline is None


async def test_a_stop_signal_is_also_a_wish_for_quiet() -> None:
    with Signals(60) as signals:
        send(signal.SIGINT)
        await signals.quiet_requested()

        assert signals.quiet


async def test_whoever_asks_after_the_signal_is_told_as_well() -> None:
    with Signals(60) as signals:
        send(signal.SIGTERM)
        first, second = await asyncio.gather(signals.stop_requested(), signals.stop_requested())

        assert first is second is await signals.stop_requested()


async def test_a_stop_from_within_counts_as_a_first_signal_and_does_not_escalate() -> None:
    with Signals(60) as signals:
        first = signals.request_stop()
        second = signals.request_stop()

        assert first is second is await signals.stop_requested()
        assert signals.level is StopLevel.DRAIN


async def test_the_handlers_that_were_there_are_put_back() -> None:
    def mine(_number: int, _frame: object) -> None:
        raise AssertionError("not this one")

    original = signal.signal(signal.SIGTERM, mine)
    try:
        before = [signal.getsignal(number) for number in STOPPING]
        with Signals(60):
            assert mine not in [signal.getsignal(number) for number in STOPPING]
        assert [signal.getsignal(number) for number in STOPPING] == before
        assert before[0] is mine
    finally:
        signal.signal(signal.SIGTERM, original)


PROGRAM = textwrap.dedent("""
    import asyncio, re, signal, sys, time
    from shutdown import ExitCode, Signals, StopLevel

    async def main():
        with Signals(60) as signals:
            print("ready", flush=True)
    {body}

    {run}
""")
IDLE = """
deadline = await signals.stop_requested()
print("left", round(deadline.remaining()), flush=True)
await signals.escalated(StopLevel.ABORT)
print("abort", flush=True)
await signals.escalated(StopLevel.EXIT)
print("exit", flush=True)
"""
BLOCKED = """
time.sleep(0.5)
print(signals.level.name, signals.deadline.remaining() < 59.9, flush=True)
"""
QUIET = """
await signals.quiet_requested()
print(signals.level.name, flush=True)
"""
RUNS = {
    "asyncio": "asyncio.run(main())",
    "uvloop": "import uvloop; uvloop.run(main())",
}


@contextlib.contextmanager
def started(body: str, run: str) -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.format(body=textwrap.indent(body, " " * 8), run=run)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_an_idle_process_wakes_for_each_of_three_real_signals(run: str) -> None:
    with started(IDLE, run) as process:
        assert process.stdout is not None
        for number, line in (
            (signal.SIGTERM, "left 60\n"),
            (signal.SIGINT, "abort\n"),
            (signal.SIGTERM, "exit\n"),
        ):
            process.send_signal(number)
            assert process.stdout.readline() == line
        stderr = process.communicate(timeout=10)[1]
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_the_deadline_counts_from_the_signal_even_while_the_loop_is_blocked(run: str) -> None:
    with started(BLOCKED, run) as process:
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (0, "DRAIN True\n", "")


def test_a_real_ctrl_z_does_not_suspend_the_process() -> None:
    with started(QUIET, RUNS["asyncio"]) as process:
        process.send_signal(signal.SIGTSTP)
        stdout, _ = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (0, "NONE\n")
