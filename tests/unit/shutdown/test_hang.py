"""The hang guard ends a process, so each test starts one that hangs, or only seems to."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from shutdown import ExitCode, HangGuard, Vital
from tests.support import eventually

LIMIT = 0.8
PROGRAM = textwrap.dedent("""
    import asyncio, os, sys, time
    from shutdown import HangGuard, Vital

    def last_words():
        return "2 jobs were\\nactive"

    claims = Vital("claims", {limit}, lambda: time.monotonic() - claimed_at)

    async def main():
        with HangGuard({limit}, {words}, {vitals}):
            print("ready", flush=True)
            {body}
        print("over", flush=True)

    claimed_at = time.monotonic()
    asyncio.run(main())
""")


def start(body: str, *, vitals: str = "()", words: str = "last_words") -> subprocess.Popen[str]:
    program = PROGRAM.format(body=body, limit=LIMIT, vitals=vitals, words=words)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("body", ["time.sleep(60)", "while True: pass"])
def test_a_blocked_loop_ends_with_70_one_line_and_all_stacks(body: str) -> None:
    with start(body) as process:
        began = time.monotonic()
        _, stderr = process.communicate(timeout=10)
    first, *stacks = stderr.splitlines()
    assert process.returncode == ExitCode.INTERNAL_ERROR
    assert first.startswith("2 jobs were active: event loop stood still for ")
    assert 'Thread "MainThread", innermost call last:' in stacks
    assert any("in main" in line for line in stacks)
    assert time.monotonic() - began > LIMIT / 2


def test_a_vital_that_stands_still_ends_a_process_whose_loop_is_well() -> None:
    with start("await asyncio.sleep(60)", vitals="[claims]") as process:
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == ExitCode.INTERNAL_ERROR
    assert "claims stood still for " in stderr


def test_what_moves_now_and_then_is_left_in_peace() -> None:
    body = "[(await asyncio.sleep(0.01), time.sleep(0.4)) for _ in range(5)]"
    with start(body) as process:
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (0, "over\n", "")


@pytest.mark.parametrize("vitals", ["()", "[claims]"])
async def test_a_process_that_was_frozen_is_not_mistaken_for_one_that_hangs(vitals: str) -> None:
    """A claim is made right after the thaw, as the loop is woken by the same timer."""
    body = "await asyncio.sleep(0.1); globals().update(claimed_at=1e12); await asyncio.sleep(0.5)"
    process = start(body, vitals=vitals)
    try:
        process.send_signal(signal.SIGSTOP)
        thaw_at = time.monotonic() + 3 * LIMIT
        await eventually(lambda: time.monotonic() > thaw_at)
        process.send_signal(signal.SIGCONT)
        stdout, stderr = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stdout, stderr) == (0, "over\n", "")


@pytest.mark.parametrize("words", ["lambda: 1 / 0", "lambda: time.sleep(60)"])
def test_last_words_that_fail_or_block_do_not_keep_it_alive(words: str) -> None:
    with start("time.sleep(60)", words=words) as process:
        assert process.wait(10) == ExitCode.INTERNAL_ERROR


def test_a_full_pipe_that_nobody_reads_does_not_hold_up_the_end() -> None:
    fill = 'os.set_blocking(2, False); exec(\'try:\\n while os.write(2, b"x" * 65536): pass\\n'
    body = fill + "except BlockingIOError: os.set_blocking(2, True)'); time.sleep(60)"
    with start(body) as process:
        assert process.wait(10) == ExitCode.INTERNAL_ERROR


async def test_it_leaves_no_thread_and_no_timer() -> None:
    before = threading.active_count()
    with HangGuard(60, lambda: "", [Vital("claims", 120, lambda: 0.0)]) as guard:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert guard._beat is not None
    assert guard._beat.cancelled()
