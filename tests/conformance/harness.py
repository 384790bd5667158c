"""The two sides of a conformance test: an app in Node, and our worker as a process of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.fixtures.node import NodeBullMQ, NodeProcess, connection_of
from tests.support import eventually, free_port, start_cli

QUEUE = "campaign"
APP = Path(__file__).parent / "node" / "app.mjs"
NODE_WORKER = Path(__file__).parent / "node" / "worker.mjs"
READY_SECONDS = 15.0
STOP_SECONDS = 10.0

JobOptions = Mapping[str, Any]


def job(data: Any, *, name: str = "send-email", **opts: Any) -> dict[str, Any]:
    """Describe a job as `Queue.addBulk` takes it."""
    return {"name": name, "data": data, "opts": opts}


def buffer(content: bytes) -> dict[str, str]:
    """Stand for a Node Buffer in a job's data."""
    return {"$buffer": base64.b64encode(content).decode()}


class App:
    """BullMQ's Queue and QueueEvents in Node; one call at a time or many."""

    def __init__(self, node: NodeBullMQ, process: NodeProcess) -> None:
        self.node = node
        self._process = process
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, node: NodeBullMQ, redis_url: str, prefix: str) -> AsyncIterator[Self]:
        """Start the app; it is killed at the end, as its connections hold nothing."""
        data = {"connection": connection_of(redis_url), "prefix": prefix, "queue": QUEUE}
        async with await node.start(APP, data) as process:
            assert await process.next_line() == {"ready": node.version}
            app = cls(node, process)
            try:
                yield app
            finally:
                app._reading.cancel()
                await asyncio.wait([app._reading])

    async def call(self, name: str, *arguments: Any, timeout_seconds: float = 20.0) -> Any:
        """Call a function of app.mjs; AssertionError with Node's stack when it throws."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._process.write_line({"id": number, "call": name, "args": arguments})
        async with asyncio.timeout(timeout_seconds):
            reply = await answer
        assert "error" not in reply, reply["error"]
        return reply["result"]

    async def add(self, *jobs: JobOptions, queue: str = QUEUE) -> list[str]:
        """Add jobs in one go; their ids."""
        return list(await self.call("add", jobs, queue))

    async def job(self, job_id: str, *, queue: str = QUEUE) -> dict[str, Any]:
        """Return what Node reads of a job."""
        found: dict[str, Any] | None = await self.call("job", job_id, queue)
        assert found is not None, f"no job {job_id}"
        return found

    async def jobs(self, *states: str) -> list[dict[str, Any]]:
        """Return what Node reads of the jobs in these states."""
        return list(await self.call("jobs", states))

    async def counts(self, *, queue: str = QUEUE) -> dict[str, int]:
        """Return the number of jobs by state, without the states that have none."""
        counts: dict[str, int] = await self.call("counts", queue)
        return {state: count for state, count in counts.items() if count}

    async def settled(
        self, timeout_seconds: float = 20.0, *, queue: str = QUEUE, **states: int
    ) -> None:
        """Wait until the queue holds exactly these jobs, by state."""

        async def so() -> bool:
            counts = await self.counts(queue=queue)
            assert counts == states, counts
            return True

        await eventually(so, timeout_seconds, says=f"queue settled at {states}")

    async def ended(self, job_id: str, *, queue: str = QUEUE) -> dict[str, Any]:
        """Wait until a job is completed or failed; what Node reads of it then."""

        async def over() -> dict[str, Any]:
            found = await self.job(job_id, queue=queue)
            assert found["state"] in {"completed", "failed"}, found
            return found

        return await eventually(over)

    async def histories(
        self, *job_ids: str, until: str, queue: str = QUEUE
    ) -> dict[str, list[str]]:
        """Return the events of these jobs by id, once QueueEvents has brought each its `until`."""

        async def told() -> dict[str, list[str]]:
            all_of_them = await self.call("histories", queue)
            wanted = {job_id: all_of_them.get(job_id, []) for job_id in job_ids}
            assert all(until in history for history in wanted.values()), wanted
            return wanted

        return await eventually(told)

    async def history(self, job_id: str, *, until: str, queue: str = QUEUE) -> list[str]:
        """Return the events of one job."""
        return (await self.histories(job_id, until=until, queue=queue))[job_id]

    async def _read(self) -> None:
        while True:
            reply = await self._process.next_line(timeout_seconds=3600)
            self._answers.pop(reply["id"]).set_result(reply)


class NodeWorker:
    """A Node Worker whose jobs say what they do (worker.mjs); `ran` has each run."""

    def __init__(self, process: NodeProcess) -> None:
        self._process = process
        self.ran: list[dict[str, Any]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, node: NodeBullMQ, **data: Any) -> AsyncIterator[Self]:
        """Start it; at the end it closes by itself, as it should."""
        async with await node.start(NODE_WORKER, data) as process:
            assert await process.next_line() == {"ready": True}
            worker = cls(process)
            reading = asyncio.create_task(worker._read())
            try:
                yield worker
                await process.write_line("close")
                async with asyncio.timeout(STOP_SECONDS):
                    await reading
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    async def _read(self) -> None:
        async for line in self._process.lines():
            self.ran.append(line["ran"])


class OurWorker:
    """`campaign-worker run` as a process; keeps its log records."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.logs: list[dict[str, Any]] = []
        self._errors = b""
        self._reading = [
            asyncio.create_task(self._read_logs()),
            asyncio.create_task(self._read_errors()),
        ]

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, environment: Mapping[str, str]) -> AsyncIterator[Self]:
        """Start it, wait until it consumes; at the end SIGTERM must bring exit code 0."""
        worker = cls(await start_cli("run", env=environment))
        try:
            await eventually(worker._is_ready, READY_SECONDS, says="worker ready")
            yield worker
            code = await worker.stop()
            assert code == 0, (code, worker._errors, worker.logs[-10:])
        finally:
            await worker._end()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            return await self._process.wait()

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Return the records of one message."""
        return [record for record in self.logs if record.get("message") == message]

    def _is_ready(self) -> bool:
        assert self._process.returncode is None, (self._process.returncode, self._errors, self.logs)
        return bool(self.logged("ready"))

    async def _read_logs(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.logs.append(json.loads(line))

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors = await self._process.stderr.read()

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._reading)


def environment_of(redis_url: str, database_url: str, smtp_url: str, prefix: str) -> dict[str, str]:
    """Return the settings of a worker in these tests."""
    return {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "SMTP_URL": smtp_url,
        "MAIL_FROM": "News <news@example.org>",
        "EHLO_NAME": "worker.test",
        "PORT": str(free_port()),
        "BULLMQ_PREFIX": prefix,
        "QUEUES": f"{QUEUE}:50",
        "RETRY_4XX_FLOOR_SECONDS": "0",
        "RECONCILE_INTERVAL_SECONDS": "1",
        "INSTANCE_ID": "replica-1",
        "LOG_FORMAT": "json",
        "DRAIN_SECONDS": "8",
    }


class Post:
    """The app's side of Postgres: campaigns, and what became of their rows."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def campaign(
        self, addresses: Sequence[str], *, follow_up_delays: Sequence[int] = ()
    ) -> tuple[int, list[int]]:
        """Create a running campaign; its id and its recipients' ids."""
        fetch = self._connection.fetchval
        template = await fetch(
            "INSERT INTO campaign_worker.templates (subject, html) VALUES ($1, $2) RETURNING id",
            "Hello {{ name }}",
            "<p>Good day, {{ name }}</p>",
        )
        campaign = await fetch(
            "INSERT INTO campaign_worker.campaigns (name, status, template_id)"
            " VALUES ('spring', 'running', $1) RETURNING id",
            template,
        )
        recipients = await self._connection.fetch(
            "INSERT INTO campaign_worker.recipients (campaign_id, email, name)"
            " SELECT $1, address, 'R' || n"
            " FROM unnest($2::text[]) WITH ORDINALITY AS t (address, n)"
            " ORDER BY n RETURNING id",
            campaign,
            list(addresses),
        )
        for step, delay in enumerate(follow_up_delays, start=1):
            await self._connection.execute(
                "INSERT INTO campaign_worker.follow_ups"
                " (campaign_id, step, template_id, delay_seconds) VALUES ($1, $2, $3, $4)",
                *(campaign, step, template, delay),
            )
        return campaign, [row["id"] for row in recipients]

    async def states(self) -> dict[str, int]:
        """Return the number of rows by state."""
        rows = await self._connection.fetch(
            "SELECT state, count(*) AS n FROM campaign_worker.messages GROUP BY state"
        )
        return {row["state"]: row["n"] for row in rows}

    async def counts(self, campaign: int) -> dict[str, Any]:
        """Return the campaign's status and counts."""
        row = await self._connection.fetchrow(
            "SELECT c.status, n.sent_count, n.failed_count, n.bounced_count"
            " FROM campaign_worker.campaigns c"
            " JOIN campaign_worker.campaign_counts n ON n.campaign_id = c.id WHERE c.id = $1",
            campaign,
        )
        assert row is not None
        return dict(row)

    async def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Return rows of any query as tuples."""
        return [tuple(row) for row in await self._connection.fetch(query, *arguments)]
