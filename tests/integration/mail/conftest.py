"""Transports to real servers, closed after the test; and servers that misbehave byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from campaign_worker.delivery.model import Accepted, Envelope
from campaign_worker.mail.smtp import SmtpTransport
from campaign_worker.mail.smtp_url import parse
from shutdown import Deadline

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MakeTransport = Callable[..., SmtpTransport]
MakeServer = Callable[[Handler], Awaitable[str]]

CONTENT = b"Subject: s\r\n\r\nbody\r\n"


@pytest.fixture
async def transport_to() -> AsyncIterator[MakeTransport]:
    """Return a maker of transports to a URL; options as SmtpTransport."""
    made: list[SmtpTransport] = []

    def make(url: str, **options: Any) -> SmtpTransport:
        usual: dict[str, Any] = {
            "name": "default",
            "max_connections": 2,
            "ehlo_name": "worker.example",
            "send_timeout_seconds": 5,
            "connect_timeout_seconds": 5,
        }
        transport = SmtpTransport(parse(url), **(usual | options))
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.close(Deadline.after(2))


@pytest.fixture
async def raw_server() -> AsyncIterator[MakeServer]:
    """Return a maker of servers whose every byte the test writes; it gives the URL."""
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()

    async def make(handler: Handler) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                # The client has gone, or the test is over: there is nobody left to tell.
                pass
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield make
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def nothing() -> None:
    """Do nothing before the dot."""


async def send(
    transport: SmtpTransport,
    *recipients: str,
    content: bytes = CONTENT,
    before_dot: Callable[[], Awaitable[None]] = nothing,
    smtputf8: bool = False,
) -> Accepted:
    """Send one mail in a slot of its own."""
    envelope = Envelope("s@a.example", recipients or ("r@b.example",), smtputf8)
    async with transport.slot() as session:
        return await session.send(envelope, content, before_dot)


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *replies: bytes
) -> list[bytes]:
    """Answer one command line by each reply; returns the commands."""
    commands = []
    for reply in replies:
        commands.append(await reader.readuntil(b"\r\n"))
        writer.write(reply + b"\r\n")
        await writer.drain()
    return commands
