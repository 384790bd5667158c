"""A process with our Worker, on uvloop as the product runs it. INPUT: see contenders.WorkerSpec."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from campaign_worker.queue import Worker


async def main() -> None:
    """Make the worker, say so, run it from the first line of stdin on."""
    given = json.loads(os.environ["INPUT"])
    seconds = given["process_ms"] / 1000

    async def process(_job: Any, _token: str) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    options = {
        "connection": given["url"],
        "concurrency": given["concurrency"],
        "autorun": False,
    }
    worker = Worker(given["queue"], process, options)
    worker.on("error", lambda error: print("error:", repr(error), file=sys.stderr))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await worker.run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
