"""The proxy loses what it is told to lose, between real clients and real servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis.asyncio
import redis.exceptions

from tests.support import TcpProxy, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: TcpProxy) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(
        proxy.url, decode_responses=True, single_connection_client=True
    )
    assert await client.ping()
    yield client
    await client.aclose()


async def test_it_forwards_to_the_database_of_the_url(
    proxy: TcpProxy, client: redis.asyncio.Redis, redis_client: redis.asyncio.Redis
) -> None:
    await client.set("k", "v")
    assert await redis_client.get("k") == "v"
    assert proxy.open_links == 1


async def test_a_held_reply_comes_late_but_the_request_was_executed(
    proxy: TcpProxy, client: redis.asyncio.Redis, redis_client: redis.asyncio.Redis
) -> None:
    proxy.hold_replies()
    reply = asyncio.ensure_future(client.set("k", "v"))
    await proxy.held_reply.wait()
    assert await redis_client.get("k") == "v"
    assert not reply.done()
    proxy.pass_all()
    assert await reply


async def test_a_held_request_is_not_executed_until_it_passes(
    proxy: TcpProxy, client: redis.asyncio.Redis, redis_client: redis.asyncio.Redis
) -> None:
    proxy.hold_requests()
    reply = asyncio.ensure_future(client.set("k", "v"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(reply), 0.1)
    assert await redis_client.get("k") is None
    proxy.pass_all()
    assert await reply


async def test_a_reply_can_be_lost_after_execution(
    proxy: TcpProxy, redis_client: redis.asyncio.Redis
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.cut_on_next_reply()
    writer.write(b"SELECT 1\r\n")
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises(ConnectionError):
        await writer.wait_closed()
    await eventually(lambda: proxy.open_links == 0)
    assert await redis_client.ping()


async def test_dropped_replies_leave_the_client_waiting(
    proxy: TcpProxy, client: redis.asyncio.Redis, redis_client: redis.asyncio.Redis
) -> None:
    proxy.drop_replies()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.set("k", "v"), 0.2)
    assert await redis_client.get("k") == "v"


async def test_a_parted_network_comes_back(proxy: TcpProxy) -> None:
    client = redis.asyncio.Redis.from_url(proxy.url)
    await client.ping()
    proxy.refuse()
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.ping()
    proxy.pass_all()
    assert await client.ping()
    await client.aclose()


async def test_a_cut_while_replies_are_held_ends_the_link(
    proxy: TcpProxy, client: redis.asyncio.Redis
) -> None:
    proxy.hold_replies()
    reply = asyncio.ensure_future(client.ping())
    await proxy.held_reply.wait()
    proxy.pass_all()
    proxy.refuse()
    await eventually(lambda: proxy.open_links == 0)
    await asyncio.wait([reply])
    proxy.pass_all()
    assert proxy.connections >= 1
    reply.exception()
