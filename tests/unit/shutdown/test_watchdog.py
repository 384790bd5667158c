"""The watchdog ends a process, so each test starts one that is worse than ours will ever be."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

from shutdown import Deadline, ExitCode, Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = textwrap.dedent("""
    import asyncio, os, re, signal, sys, time
    from shutdown import Deadline, ExitCode, Signals, StopLevel, Watchdog

    def last_words():
        return "left: 2 jobs\\nin doubt: 1"

    def escalate(level, deadline):
        if level is StopLevel.EXIT:
            dog.end_now()
        dog.arm(deadline)

    async def main():
        with Signals(0.2, escalate):
            print("ready", flush=True)
    {body}

    dog = Watchdog({words})
    with dog:
        asyncio.run(main())
    print("over", flush=True)
    os._exit(3)
""")


# A signal between Python's check and the system call is only seen when the call returns: the first,
# short sleep takes the signal that the test sends on "ready".
BLOCKED = "time.sleep(0.05); time.sleep(60)"
FILL_STDERR = """
os.set_blocking(2, False)
while True:
    try:
        os.write(2, b"x" * 65536)
    except BlockingIOError:
        break
os.set_blocking(2, True)
print("full", flush=True)
"""


@contextlib.contextmanager
def started(body: str, words: str = "last_words") -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.format(body=textwrap.indent(body, " " * 8), words=words)
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


@pytest.mark.parametrize("body", [BLOCKED, "await asyncio.sleep(60)", "while True: pass"])
def test_a_process_that_does_not_end_is_ended_at_the_deadline(body: str) -> None:
    with started(body) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == ExitCode.WATCHDOG
    assert (stdout, stderr) == ("", "left: 2 jobs in doubt: 1\n")
    assert 0.1 < time.monotonic() - began < 2.5


def test_c_code_that_holds_the_gil_is_ended_by_the_second_layer_with_stacks() -> None:
    body = r"re.match(r'(a+)+$', 'a' * 64 + 'b')"
    with started(body) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == ExitCode.FORCED
    assert "Timeout (0:00:00." in stderr
    assert "in match" in stderr
    assert 0.6 < time.monotonic() - began < 2.8


def test_last_words_that_fail_do_not_keep_the_process_alive() -> None:
    with started(BLOCKED, "lambda: 1 / 0") as process:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == ExitCode.WATCHDOG
    assert "what was left is unknown: ZeroDivisionError" in stderr


def test_last_words_that_block_are_cut_off_by_the_second_layer() -> None:
    with started(BLOCKED, "lambda: time.sleep(60)") as process:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == ExitCode.FORCED
    assert "Timeout" in stderr


def test_a_full_pipe_that_nobody_reads_does_not_hold_up_the_end() -> None:
    with started(FILL_STDERR + BLOCKED) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "full\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == ExitCode.WATCHDOG


def test_the_third_signal_ends_a_blocked_process_at_once() -> None:
    arm = "dog.arm = lambda deadline: os.write(1, b'signal\\n')\nos.write(1, b'armed\\n')"
    with started(f"{arm}\nwhile True: time.sleep(0.01)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "armed\n"
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "signal\n"
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == ExitCode.FORCED
    assert stderr == "left: 2 jobs in doubt: 1\n"


def test_a_disarmed_watchdog_lets_the_process_end_by_itself() -> None:
    body = "dog.arm(Deadline.after(0.05)); dog.disarm(); await asyncio.sleep(0.8)"
    with started(body) as process:
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (3, "over\n", "")


def test_a_later_order_moves_the_deadline() -> None:
    body = "dog.arm(Deadline.after(0.05)); dog.arm(Deadline.after(60)); await asyncio.sleep(0.8)"
    with started(body) as process:
        stdout, _ = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (3, "over\n")


def test_start_and_stop_are_idempotent_and_leave_no_thread() -> None:
    before = threading.active_count()
    dog = Watchdog(lambda: "nothing")
    dog.stop()

    for _ in range(2):
        with dog:
            dog.start()
            assert threading.active_count() == before + 1
            dog.arm(Deadline.after(60))
        dog.stop()

    assert threading.active_count() == before


def test_arming_before_the_start_is_an_error_rather_than_a_watchdog_that_sleeps() -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        Watchdog(lambda: "nothing").arm(Deadline.after(60))


def test_the_last_line_is_cut_to_what_a_pipe_takes_at_once() -> None:
    reader, writer = os.pipe()
    program = (
        "import sys; from shutdown import ExitCode, Watchdog\n"
        f"Watchdog(lambda: 'é' * 9000, descriptor={writer}).end_now(ExitCode.INTERNAL_ERROR)"
    )
    try:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, pass_fds=[writer], timeout=10, check=False)
        data = os.read(reader, 65536)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == ExitCode.INTERNAL_ERROR
    assert len(data) == 4001
    assert data.endswith(b"\n")
