"""A parent that has imported everything and connected to nothing; workers are forked from it.

Run as a program; its argument is by how many seconds the wall clock of its workers is wrong. Each
line of stdin is a JSON list: ["start", environment, folder] is answered by the new pid, ["reap",
pid] by the exit status of a child or null while it runs, ["time"] by the time of day as workers see
it. A pid stays taken until it is reaped, so that a signal can never reach another process. End of
stdin kills all.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from typing import Any, NoReturn


def shift_clock(seconds: float) -> None:
    """Let this process, and all that are forked from it, believe in another time of day."""
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_time_ns() + round(seconds * 1e9)


def become_worker(environment: dict[str, str], folder: str) -> NoReturn:
    """Be `campaign-worker run` with this environment, in this folder; its output goes there."""
    # Imported before, but not before the clock was set.
    main = importlib.import_module("campaign_worker.__main__").main
    try:
        os.setsid()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        log = os.open("worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        sys.argv = ["campaign-worker", "run"]
        main()
    except SystemExit as error:
        sys.stdout.flush()
        os._exit(error.code if isinstance(error.code, int) else 1)
    except BaseException:  # noqa: BLE001 - a child never runs on in its parent's code
        traceback.print_exc()
    os._exit(1)


def reap(pid: int) -> int | None:
    """Return the exit code of a child, negative for a signal, None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve() -> None:
    """Answer until stdin ends."""
    for name in ("campaign_worker.__main__", "campaign_worker.app", "campaign_worker.cli.run"):
        importlib.import_module(name)

    children: set[int] = set()
    # What was imported stays as it is in every child.
    gc.collect()
    gc.freeze()
    try:
        for line in sys.stdin:
            match json.loads(line):
                case ["start", environment, folder]:
                    pid = os.fork()
                    if pid == 0:
                        become_worker(environment, folder)
                    children.add(pid)
                    answer: Any = pid
                case ["time"]:
                    answer = time.time()
                case ["reap", pid]:
                    answer = reap(pid)
                    if answer is not None:
                        children.discard(pid)
                case other:
                    raise ValueError(other)
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    shift_clock(float(sys.argv[1]))
    serve()
