"""The shorter way through the server: what goes it, what does not, and that nobody sees which."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.integration.tracking.test_recorder import held

if TYPE_CHECKING:
    from tests.integration.tracking.kit import Tracked
    from tests.integration.tracking.site import Site


class Line:
    """A connection to the site, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, site: Site) -> Line:
        port = int(site.base.rpartition(":")[2])
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: str) -> None:
        self._writer.write(data.encode())
        await self._writer.drain()

    async def status(self) -> int:
        """Read one answer whole; its status."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split(" ", 2)[1])

    async def ended(self) -> bool:
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def request(path: str, *, headers: str = "", method: str = "GET", body: str = "") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}"


async def test_answers_come_in_the_order_of_requests_that_came_at_once(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    picture = site.urls.open(sent.id).removeprefix(site.base)
    line = await Line.to(site)
    async with held(tracked, sent):
        await line.send(request(picture))
        await line.send(request("/nowhere") + request("/o/forged.gif"))
        await line.send(request(picture) + request("/u/", method="POST"))
    assert [await line.status() for _ in range(5)] == [200, 404, 404, 200, 404]
    await line.close()


@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_a_request_in_pieces_is_answered_as_one_in_one(
    site: Site, tracked: Tracked, pieces: int
) -> None:
    sent = await tracked.sent()
    text = request(site.urls.open(sent.id).removeprefix(site.base), headers="User-Agent: x\r\n")
    line = await Line.to(site)
    step = -(-len(text) // pieces)
    for begin in range(0, len(text), step):
        await line.send(text[begin : begin + step])
        await asyncio.sleep(0)
    assert await line.status() == 200
    await line.send(text)
    assert await line.status() == 200
    await line.close()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Length: 2\r\n", "ab", 200),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", 200),
        ("Expect: 100-continue\r\n", "", 417),
        ("X: a\r\n b\r\n", "", 400),
        ("X : a\r\n", "", 400),
        ("X: a\x01\r\n", "", 400),
        ("no colon\r\n", "", 400),
        ("X: a\r\nX: b\r\n", "", 200),
    ],
)
async def test_what_is_unusual_is_judged_by_the_whole_server(
    site: Site, tracked: Tracked, headers: str, body: str, status: int
) -> None:
    sent = await tracked.sent()
    picture = site.urls.open(sent.id).removeprefix(site.base)
    line = await Line.to(site)
    await line.send(request(picture, headers=headers, body=body))
    if status == 417:
        # The server may also just say that it waits for a body.
        assert await line.status() in (100, 200, 417)
    else:
        assert await line.status() == status
    await line.close()


async def test_a_body_is_never_taken_for_the_next_request(site: Site, tracked: Tracked) -> None:
    sent = await tracked.sent()
    picture = site.urls.open(sent.id).removeprefix(site.base)
    smuggled = request("/c/smuggled")
    line = await Line.to(site)
    await line.send(request(picture, headers=f"Content-Length: {len(smuggled)}\r\n", body=smuggled))
    assert await line.status() == 200
    await line.send(request(picture, headers="Connection: close\r\n"))
    assert await line.status() == 200
    assert await line.ended()
    await line.close()


async def test_a_client_that_leaves_before_its_answer_harms_nobody(
    site: Site, tracked: Tracked
) -> None:
    sent = await tracked.sent()
    picture = site.urls.open(sent.id).removeprefix(site.base)
    line = await Line.to(site)
    async with held(tracked, sent):
        await line.send(request(picture))
        await line.close()
    assert (await site.get(site.urls.open(sent.id))).status == 200
