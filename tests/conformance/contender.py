"""A worker process, ours or the package's own, with the same jobs to do. Started by contenders.py.

INPUT: {worker, url, prefix, options, clock_ahead, listener}. Says what happens, one JSON object a
line. A line on stdin closes the worker; then the process ends.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from typing import Any

given = json.loads(os.environ["INPUT"])
if given["clock_ahead"]:
    true_time = time.time
    time.time = lambda: true_time() + given["clock_ahead"]
# Only one of them: importing the other would cost the time that is measured.
PACKAGE = {"ours": "campaign_worker.queue", "package": "bullmq"}[given["worker"]]


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def process(job: Any, token: str, signal: Any = None) -> Any:
    say(started=job.id, at=time.time())
    match job.data:
        case {"seconds": seconds}:
            await asyncio.sleep(0 if job.attemptsMade else seconds)
        case {"block": seconds}:
            block(seconds)
        case {"cancel": True}:
            raise asyncio.CancelledError
        case {"nan": True}:
            return {"open_rate": float("nan")}
        case {"ticks": ticks}:
            await tick(ticks, signal)
        case _:
            pass
    if job.data.get("fails") or (job.data.get("fails_first") and job.attemptsMade == 0):
        raise ValueError("no")
    return "done"


async def tick(ticks: int, signal: Any) -> None:
    try:
        for number in range(ticks):
            if signal.aborted:
                break
            say(tick=number)
            await asyncio.sleep(0.05)
    finally:
        say(aborted=signal.aborted)


def block(seconds: float) -> None:
    time.sleep(seconds)


def explode(*_arguments: Any) -> None:
    raise RuntimeError("listener")


async def main() -> None:
    options = {**given["options"], "connection": given["url"], "prefix": given["prefix"]}
    worker = importlib.import_module(PACKAGE).Worker("mails", process, options)
    if given["listener"]:
        worker.on("completed", explode)
    worker.on("failed", lambda job, error, *_: say(failed=job.id, text=str(error)))
    worker.on("error", lambda error, *_: say(error=str(error)))
    stdin = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stdin)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    say(ready=True)
    await stdin.readline()
    say(closing=True)
    await worker.close()
    say(closed=True)
    # As a program does that has nothing more to do: jobs that run on are cut off.
    os._exit(0)


asyncio.run(main())
