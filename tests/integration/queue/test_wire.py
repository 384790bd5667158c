"""The wire against peers that say what a Redis never says, and against one that pauses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ResponseError

from campaign_worker.errors import RedisAway
from campaign_worker.queue.connection import ConnectionSpec
from campaign_worker.queue.wire import Wire

#: redis-py introduces itself with two commands (CLIENT SETINFO) and waits for both replies.
_WELCOME = b"+OK\r\n+OK\r\n"
_PATIENCE_SECONDS = 5.0


@asynccontextmanager
async def _peer(answer: bytes) -> AsyncIterator[Wire]:
    """Yield a wire to a peer that welcomes it, and says `answer` to what it reads next."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = b""
        while greeting.count(b"SETINFO") < 2:
            greeting += await reader.read(65536)
        writer.write(_WELCOME)
        await reader.read(65536)
        writer.write(answer)
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lost: list[None] = []
    wire = Wire(
        ConnectionSpec("127.0.0.1", port).connection(),
        reply_timeout_seconds=_PATIENCE_SECONDS,
        on_lost=lambda: lost.append(None),
    )
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await wire.open()
            yield wire
    finally:
        await wire.aclose()
        server.close()
        await server.wait_closed()
    assert lost == [None]


async def test_commands_of_one_turn_are_answered_in_order(redis_url: str) -> None:
    wire = Wire(ConnectionSpec.of(redis_url).connection(), reply_timeout_seconds=_PATIENCE_SECONDS)
    await wire.open()
    try:
        echoes = [wire.call("ECHO", f"é{number}" * number) for number in range(500)]
        refused = wire.call("NO-SUCH-COMMAND")
        assert await asyncio.gather(*echoes) == [f"é{number}" * number for number in range(500)]
        with pytest.raises(ResponseError, match="unknown command"):
            await refused
        # A refusal ends nothing.
        assert await wire.call("ECHO", "on") == "on"
    finally:
        await wire.aclose()


async def test_more_than_the_transport_takes_is_sent_and_answered_all_the_same(
    redis_url: str,
) -> None:
    wire = Wire(ConnectionSpec.of(redis_url).connection(), reply_timeout_seconds=_PATIENCE_SECONDS)
    await wire.open()
    try:
        big = "x" * 3_000_000
        first = wire.call("ECHO", big)
        await asyncio.sleep(0)
        second = wire.call("ECHO", "after")
        assert await first == big
        assert await second == "after"
    finally:
        await wire.aclose()


async def test_a_reply_may_come_in_pieces_and_several_at_once(redis_url: str) -> None:
    stream = "*2\r\n$4\r\naéb\r\n:7\r\n-ERR no\r\n$-1\r\n".encode()
    for cut in range(len(stream) + 1):
        # Not opened: what a peer's segments bring is handed in here.
        wire = Wire(ConnectionSpec.of(redis_url).connection(), reply_timeout_seconds=None)
        first, second, third = (wire.call(name) for name in ("ONE", "TWO", "THREE"))
        wire.data_received(stream[:cut])
        wire.data_received(stream[cut:])
        assert await first == ["aéb", 7]
        with pytest.raises(ResponseError, match="no"):
            await second
        assert await third is None
        await wire.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"?what\r\n", id="no RESP"),
        pytest.param(b"+OK\r\n+nobody asked\r\n", id="a reply to nothing"),
        pytest.param(b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", id="loading"),
    ],
)
async def test_what_no_command_can_go_on_after_ends_the_connection(answer: bytes) -> None:
    async with _peer(answer) as wire:
        wire.call("ONE").add_done_callback(lambda reply: reply.exception())
        await wire.lost.wait()
        with pytest.raises(RedisAway, match="connection lost"):
            await wire.call("TWO")


async def test_a_reply_that_cannot_come_any_more_is_redis_away() -> None:
    async with _peer(b"") as wire:
        replies = [wire.call("ONE"), wire.call("TWO")]
        wire.abort(TimeoutError("enough"))
        for reply in replies:
            with pytest.raises(RedisAway, match="enough"):
                await reply


async def test_a_caller_that_is_gone_leaves_its_reply_to_nobody() -> None:
    async with _peer(b"+first\r\n+second\r\n") as wire:
        first, second = wire.call("ONE"), wire.call("TWO")
        first.cancel()
        assert await second == "second"
