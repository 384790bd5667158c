"""A process with the Python package's Worker, on asyncio's loop as its documentation shows it.

Without a socket timeout: redis-py's default of 5 s collides with its block of 5 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from bullmq import Worker


async def main() -> None:
    """Make the worker, say so, run it from the first line of stdin on."""
    given = json.loads(os.environ["INPUT"])
    seconds = given["process_ms"] / 1000

    async def process(_job: Any, _token: str) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    at = urlsplit(given["url"])
    options = {
        "connection": {"host": at.hostname, "port": at.port, "socket_timeout": None},
        "concurrency": given["concurrency"],
        "autorun": False,
    }
    worker = Worker(given["queue"], process, options)
    worker.on("error", lambda error, *_: print("error:", repr(error), file=sys.stderr))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main())
