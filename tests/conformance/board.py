"""bull-board in Node, and what its page does over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.conformance.harness import QUEUE
from tests.fixtures import node_packages
from tests.fixtures.node import NodeBullMQ, connection_of

PROGRAM = Path(__file__).parent / "node" / "board.cjs"


class Board:
    """The dashboard of one queue."""

    def __init__(self, session: aiohttp.ClientSession, version: str) -> None:
        self._session = session
        self.version = version

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls, node: NodeBullMQ, redis_url: str, prefix: str, queue: str = QUEUE
    ) -> AsyncIterator[Self]:
        """Start it with this bullmq; it is killed at the end, as its connections hold nothing."""
        node_packages.install_folder("board")
        data = {"connection": connection_of(redis_url), "prefix": prefix, "queue": queue}
        async with await node.start(PROGRAM, data) as process:
            said = await process.next_line()
            base = f"http://127.0.0.1:{said['port']}"
            async with aiohttp.ClientSession(base) as session:
                yield cls(session, said["board"])

    async def get(self, path: str, **query: str) -> Any:
        """Return the JSON of an answer; AssertionError when it is no 200."""
        async with self._session.get(path, params=query) as answer:
            assert answer.status == 200, (answer.status, await answer.text())
            return await answer.json()

    async def put(self, path: str, body: Any = None) -> None:
        """Press a button; AssertionError when the board refuses."""
        async with self._session.put(path, json=body) as answer:
            assert answer.status in {200, 204}, (answer.status, await answer.text())

    async def overview(self, status: str = "latest", queue: str = QUEUE) -> dict[str, Any]:
        """Return what the board says of the queue, with its jobs of one state."""
        page = await self.get("/api/queues", activeQueue=queue, status=status)
        (only,) = page["queues"]
        return dict(only)

    async def listed(self, status: str) -> dict[str, dict[str, Any]]:
        """Return the jobs that it lists of one state, by id."""
        return {job["id"]: job for job in (await self.overview(status))["jobs"]}

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by state, without the states that have none."""
        counts: dict[str, int] = (await self.overview())["counts"]
        return {state: count for state, count in counts.items() if count}

    async def shows(self, **states: int) -> bool:
        """Tell whether it counts exactly these jobs."""
        counts = await self.counts()
        assert counts == states, counts
        return True
