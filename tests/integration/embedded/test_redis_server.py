"""A Redis of our own survives what it must and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from campaign_worker.embedded.redis import RedisServer
from campaign_worker.embedded.redis_binary import fetch_redis, find_redis
from campaign_worker.errors import EmbeddedServerError

ROOT = Path(__file__).parents[3]

MakeRedis = Callable[..., Awaitable[RedisServer]]


async def ask(server: RedisServer, *command: str) -> Any:
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True, socket_timeout=1)
    try:
        reply: Any = await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no types for it
        return reply
    finally:
        await client.aclose()


async def test_what_was_written_survives_a_kill(own_redis: MakeRedis) -> None:
    server = await own_redis(appendfsync="always")
    port = server.port
    await ask(server, "SET", "k", "v")
    await server.kill()
    assert not server.running
    await server.start()
    assert await ask(server, "GET", "k") == "v"
    assert server.port == port


async def test_a_restart_keeps_port_and_data(own_redis: MakeRedis) -> None:
    server = await own_redis()
    url, pid = server.url, server.pid
    await ask(server, "SET", "k", "v")
    await server.restart()
    assert (server.url, server.pid != pid) == (url, True)
    assert await ask(server, "GET", "k") == "v"


async def test_nothing_is_ever_evicted(own_redis: MakeRedis) -> None:
    server = await own_redis()
    settings = await ask(server, "CONFIG", "GET", "*")
    assert (settings["maxmemory-policy"], settings["appendonly"]) == ("noeviction", "yes")


async def test_a_password_with_any_character_is_demanded(own_redis: MakeRedis) -> None:
    server = await own_redis(password='p@ss "w\\rd')
    assert await ask(server, "PING")
    client = redis.asyncio.Redis(port=server.port, retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.exceptions.AuthenticationError):
        await client.ping()
    await client.aclose()


async def test_a_frozen_server_keeps_connections_and_answers_after_the_thaw(
    own_redis: MakeRedis,
) -> None:
    server = await own_redis()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    server.freeze()
    writer.write(b"PING\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), 0.2)
    server.thaw()
    assert await asyncio.wait_for(reader.readline(), 5) == b"+PONG\r\n"
    writer.close()
    await writer.wait_closed()


async def test_a_frozen_server_can_be_stopped(own_redis: MakeRedis) -> None:
    server = await own_redis()
    server.freeze()
    await server.stop()
    assert not server.running


async def test_a_server_that_cannot_start_says_why(own_redis: MakeRedis) -> None:
    with pytest.raises(EmbeddedServerError, match="no-such-directive"):
        await own_redis(settings={"no-such-directive": "1"})


async def test_a_port_that_is_taken_is_named(own_redis: MakeRedis) -> None:
    server = await own_redis()
    with pytest.raises(EmbeddedServerError, match="already in use"):
        await own_redis(port=server.port)


def test_where_no_server_is_found_one_sentence_names_the_package() -> None:
    script = (
        "import sys, platform; sys.prefix = '/nonexistent'; sys.platform = 'darwin';"
        f"sys.path.insert(0, {str(ROOT)!r});"
        "from campaign_worker.embedded.fetch_redis import main; sys.exit(main())"
    )
    # -S: without site-packages there is no wheel either.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt install redis-server" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_found_is_not_fetched(tmp_path: Path) -> None:
    target = tmp_path / "redis-server"
    assert fetch_redis(target) == find_redis()
    assert not target.exists()
    assert os.access(find_redis(), os.X_OK)
