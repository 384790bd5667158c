"""The whole stack comes up at once and never outlives the process that started it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys

import asyncpg
import psutil
import pytest
import redis.asyncio

from campaign_worker.embedded.stack import EmbeddedStack
from campaign_worker.errors import EmbeddedServerError
from tests.support import eventually

PARENT = """
import asyncio, json, sys
from campaign_worker.embedded.stack import EmbeddedStack

async def main():
    async with EmbeddedStack() as stack:
        servers = (stack.redis, stack.postgres, stack.sink)
        if "freeze" in sys.argv:
            for server in servers:
                server.freeze()
        pids = [one.pid for server in servers for one in server.family]
        print(json.dumps({"pids": pids, "folder": str(stack.data_dir)}), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


async def test_all_three_servers_take_work() -> None:
    async with EmbeddedStack(latency_ms=1) as stack:
        client = redis.asyncio.Redis.from_url(stack.redis_url)
        assert await client.ping()
        await client.aclose()
        connection = await asyncpg.connect(stack.database_url)
        assert await connection.fetchval("SELECT current_database()") == "campaign"
        assert await connection.fetchval("SHOW fsync") == "on"
        await connection.close()
        assert stack.smtp_url == f"smtp://127.0.0.1:{stack.sink.port}"
        folder = stack.data_dir
    assert not folder.exists()


async def test_a_folder_can_be_used_again() -> None:
    with_temporary = EmbeddedStack()
    folder = with_temporary.data_dir
    try:
        for _ in range(2):
            stack = EmbeddedStack(folder)
            await stack.start()
            await stack.stop()
        assert (folder / "redis").is_dir()
    finally:
        await with_temporary.stop()


async def test_when_one_server_does_not_come_none_is_left() -> None:
    stack = EmbeddedStack()
    (stack.data_dir / "smtp").mkdir()
    (stack.data_dir / "smtp" / "smtp.log").mkdir()
    with pytest.raises((EmbeddedServerError, OSError)):
        await stack.start()
    assert not stack.redis.running
    assert not stack.postgres.running


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    stack = EmbeddedStack()
    task = asyncio.create_task(stack.start())
    await eventually(lambda: stack.redis.running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    servers = (stack.redis, stack.postgres, stack.sink)
    assert [server.name for server in servers if server.running] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("state", ["at-work", "freeze"])
async def test_nothing_outlives_the_parent(number: signal.Signals, state: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", PARENT, state],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": "/tmp"},  # noqa: S108 - Postgres' account must reach it
    )
    assert parent.stdout is not None
    told = json.loads(await parent.stdout.readline())
    assert len(alive(told["pids"])) >= 7
    parent.send_signal(number)
    await parent.wait()
    await eventually(lambda: not alive(told["pids"]), says="all servers gone")
    shutil.rmtree(told["folder"], ignore_errors=True)
