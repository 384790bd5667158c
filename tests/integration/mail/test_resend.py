"""Resend's API as a transport: what is written when, what is repeated, what is left unknown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from campaign_worker.delivery.model import Accepted, Attachment, Composed, Envelope, Mail, Rendered
from campaign_worker.errors import HttpLost, HttpRefused, SmtpPhase, TransportDown
from campaign_worker.mail.resend import ResendTransport
from campaign_worker.mail.resend_url import parse
from shutdown import Deadline
from tests.fixtures.resend import API_KEY, Fault, Refuse, ResendApi
from tests.support import eventually, free_port

MakeTransport = Callable[..., ResendTransport]
ENVELOPE = Envelope("news@example.org", ("ada@example.com",))


def composed(subject: str = "Hello", **more: Any) -> Composed:
    given: dict[str, Any] = {"to": ("Ada <ada@example.com>",)} | more
    mail = Mail(
        message_id="<1.1.0@example.org>",
        date=datetime(2026, 11, 1, tzinfo=UTC),
        sender="News <news@example.org>",
        rendered=Rendered(subject, "<p>Hi</p>", "Hi"),
        **given,
    )
    return Composed(ENVELOPE, b"MIME", mail.message_id, mail)


def content(transport: ResendTransport, subject: str = "Hello", key: str = "key-1") -> bytes:
    return transport.prepare(composed(subject), key)


class Mark:
    """Notes how often it was asked; fails or waits as told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.error = error
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
async def transport_to() -> AsyncIterator[MakeTransport]:
    """Return a maker of transports to a URL; options as ResendTransport."""
    made: list[ResendTransport] = []

    def make(url: str, **options: Any) -> ResendTransport:
        usual: dict[str, Any] = {
            "name": "default",
            "max_connections": 2,
            "send_timeout_seconds": 5,
            "connect_timeout_seconds": 5,
        }
        transport = ResendTransport(parse(url), **(usual | options))
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.close(Deadline.after(2))


@pytest.fixture
def transport(transport_to: MakeTransport, resend_api: ResendApi) -> ResendTransport:
    return transport_to(resend_api.url)


async def send(transport: ResendTransport, what: bytes, mark: Mark | None = None) -> Accepted:
    async with transport.slot() as session:
        return await session.send(Envelope("", ()), what, mark or Mark())


async def test_a_mail_goes_as_json_with_its_key(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    mail = composed(
        "Grüße",
        cc=("b@example.com",),
        reply_to="r@example.org",
        headers={"In-Reply-To": "<0@example.org>"},
        attachments=(Attachment("a.txt", b"abc", "text/plain"),),
    )
    recipients = (*ENVELOPE.recipients, "b@example.com", "hidden@example.com")
    hidden = Composed(Envelope("news@example.org", recipients), b"", mail.message_id, mail.mail)
    accepted = await send(transport, transport.prepare(hidden, "key-1"))
    (got,) = resend_api.mails
    assert accepted == Accepted(f"200 {got.pop('id')}")
    assert got == {
        "from": "News <news@example.org>",
        "to": ["Ada <ada@example.com>"],
        "cc": ["b@example.com"],
        "bcc": ["hidden@example.com"],
        "reply_to": ["r@example.org"],
        "subject": "Grüße",
        "html": "<p>Hi</p>",
        "text": "Hi",
        "headers": {"Message-ID": "<1.1.0@example.org>", "In-Reply-To": "<0@example.org>"},
        "attachments": [{"filename": "a.txt", "content": "YWJj", "content_type": "text/plain"}],
    }
    assert resend_api.keys == ["key-1"]


async def test_the_same_request_is_one_mail_however_often_it_is_sent(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    answers = {(await send(transport, content(transport))).reply for _ in range(3)}
    assert (len(answers), len(resend_api.mails), len(resend_api.requests)) == (1, 1, 3)


async def test_no_repetition_may_end_after_its_key_is_forgotten(
    transport_to: MakeTransport, resend_api: ResendApi
) -> None:
    transport = transport_to(resend_api.url, send_timeout_seconds=600)
    a_day, clocks = 24 * 3600, 60
    assert transport.replay_seconds + 600 + clocks <= a_day


async def test_another_body_under_the_same_key_is_told_apart(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    await send(transport, content(transport))
    with pytest.raises(HttpRefused) as caught:
        await send(transport, content(transport, "Another"))
    assert (caught.value.status, caught.value.name) == (409, "invalid_idempotent_request")
    assert len(resend_api.mails) == 1


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
async def test_a_broken_connection_is_made_good_at_once(
    transport: ResendTransport, resend_api: ResendApi, fault: Fault
) -> None:
    resend_api.faults = [fault]
    accepted = await send(transport, content(transport))
    (mail,) = resend_api.mails
    assert accepted.reply == f"200 {mail['id']}"
    assert resend_api.requests[0] == resend_api.requests[1]


async def test_a_connection_that_breaks_twice_leaves_the_outcome_unknown(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.CUT_AFTER, Fault.CUT_BEFORE]
    with pytest.raises(HttpLost):
        await send(transport, content(transport))
    assert (await send(transport, content(transport))).reply.startswith("200 ")
    assert len(resend_api.mails) == 1


async def test_a_slow_answer_is_given_up_and_its_repetition_is_concurrent(
    transport_to: MakeTransport, resend_api: ResendApi
) -> None:
    transport = transport_to(resend_api.url, send_timeout_seconds=0.2)
    resend_api.faults = [Fault.SLOW]
    with pytest.raises(HttpLost):
        await send(transport, content(transport))
    with pytest.raises(HttpRefused) as caught:
        await send(transport, content(transport))
    assert (caught.value.status, caught.value.name) == (409, "concurrent_idempotent_requests")
    assert len(resend_api.mails) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
async def test_a_server_that_cannot_be_reached_is_down_and_nothing_is_marked(
    transport_to: MakeTransport, host: str
) -> None:
    transport = transport_to(f"resend+http://:k@{host}:{free_port()}")
    mark = Mark()
    with pytest.raises(TransportDown) as caught:
        await send(transport, content(transport), mark)
    assert (caught.value.phase, mark.asked) == (SmtpPhase.CONNECT, 0)


async def test_a_server_that_is_no_http_server_is_down_or_unknown_but_never_accepted(
    transport_to: MakeTransport,
) -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp ready\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport = transport_to(f"resend+http://:k@127.0.0.1:{port}")
        with pytest.raises((TransportDown, HttpLost)):
            await send(transport, content(transport))


async def test_no_byte_of_a_body_goes_out_before_the_mark(transport_to: MakeTransport) -> None:
    seen = bytearray()
    mark = Mark()
    mark.gate = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            seen.extend(chunk)
            if seen.endswith(b"}"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + b'{"id": "m1"}')
        writer.close()

    server = await asyncio.start_server(watch, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport = transport_to(f"resend+http://:k@127.0.0.1:{port}", send_timeout_seconds=1)
        sending = asyncio.create_task(send(transport, content(transport), mark))
        await eventually(lambda: mark.asked)
        assert b"Hello" not in seen
        mark.gate.set()
        assert (await sending).reply == "200 m1"
        assert seen.endswith(content(transport).partition(b"\n")[2])
        await transport.close(Deadline.after(1))


async def test_what_the_mark_raises_comes_through_and_nothing_is_sent(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    class LeaseLost(Exception):
        pass

    with pytest.raises(LeaseLost):
        await send(transport, content(transport), Mark(LeaseLost()))
    assert resend_api.requests == []
    await send(transport, content(transport))
    assert len(resend_api.mails) == 1


async def test_a_cancelled_send_is_cancelled_and_its_place_is_free_again(
    transport_to: MakeTransport, resend_api: ResendApi
) -> None:
    transport = transport_to(resend_api.url, max_connections=1)
    resend_api.faults = [Fault.SLOW]
    sending = asyncio.create_task(send(transport, content(transport)))
    await eventually(lambda: resend_api.mails)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    resend_api.released.set()
    assert (await send(transport, content(transport, key="key-2"))).reply.startswith("200 ")


REFUSALS = [
    (Refuse(429, "rate_limit_exceeded", retry_after="7"), (429, "rate_limit_exceeded", 7.0)),
    (Refuse(429, "daily_quota_exceeded"), (429, "daily_quota_exceeded", None)),
    (Refuse(422, "validation_error", "Invalid `to` field."), (422, "validation_error", None)),
    (Refuse(403, "validation_error", "not verified"), (403, "validation_error", None)),
    (Refuse(400, "validation_error", "API key is invalid"), (400, "invalid_api_key", None)),
    (Refuse(500, "Nonsense Name", retry_after="soon"), (500, "", None)),
]


@pytest.mark.parametrize(("refuse", "said"), REFUSALS, ids=lambda value: str(value)[:40])
async def test_an_error_comes_with_status_name_and_hint(
    transport: ResendTransport,
    resend_api: ResendApi,
    refuse: Refuse,
    said: tuple[int, str, float | None],
) -> None:
    resend_api.faults = [refuse]
    with pytest.raises(HttpRefused) as caught:
        await send(transport, content(transport))
    error = caught.value
    assert (error.status, error.name, error.retry_after_seconds) == said
    assert error.text == refuse.message


async def test_a_redirect_is_not_followed(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    resend_api.faults = [web.Response(status=307, headers={"Location": "/emails"})]
    with pytest.raises(HttpRefused) as caught:
        await send(transport, content(transport))
    assert (caught.value.status, len(resend_api.requests)) == (307, 1)


@pytest.mark.parametrize(
    "body", ["", "<html>welcome</html>", "[]", '{"id": 7}', '{"id": ""}', "[" * 60_000, "x" * 10**6]
)
async def test_a_200_that_names_no_mail_is_believed_by_nobody(
    transport: ResendTransport, resend_api: ResendApi, body: str
) -> None:
    resend_api.faults = [web.Response(text=body)]
    with pytest.raises(HttpLost):
        await send(transport, content(transport))


async def test_a_connection_that_the_server_has_closed_meanwhile_costs_nothing(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    await send(transport, content(transport))
    await resend_api.stop()
    await resend_api.start()
    await send(transport, content(transport, "Second", "key-2"))
    assert [mail["subject"] for mail in resend_api.mails] == ["Hello", "Second"]


async def test_no_more_requests_at_once_than_allowed(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    resend_api.on_request = resend_api.released.wait
    mails = [content(transport, key=f"key-{number}") for number in range(20)]
    sending = asyncio.gather(*(send(transport, one) for one in mails))
    await eventually(lambda: resend_api.running == 2)
    resend_api.released.set()
    await sending
    assert (len(resend_api.mails), resend_api.most_running) == (20, 2)


async def test_closing_cuts_what_is_in_use_and_opens_nothing_more(
    transport: ResendTransport, resend_api: ResendApi
) -> None:
    resend_api.faults = [Fault.SLOW]
    sending = asyncio.create_task(send(transport, content(transport)))
    await eventually(lambda: resend_api.mails)
    await transport.close(Deadline.after(1))
    await asyncio.wait([sending])
    assert isinstance(sending.exception(), HttpLost)
    with pytest.raises(TransportDown):
        await send(transport, content(transport))


async def test_a_probe_tells_a_good_key_from_a_bad_one_and_sends_nothing(
    transport_to: MakeTransport, resend_api: ResendApi
) -> None:
    good = transport_to(resend_api.url)
    assert not (await good.probe()).restricted
    resend_api.restricted = True
    assert (await good.probe()).restricted
    resend_api.domains_problem = Refuse(503, "service_unavailable")
    with pytest.raises(TransportDown) as caught:
        await good.probe()
    assert caught.value.phase is SmtpPhase.GREETING
    # Whoever says that we ask too often is there.
    resend_api.domains_problem = Refuse(429, "rate_limit_exceeded")
    assert not (await good.probe()).restricted
    resend_api.domains_problem = None
    with pytest.raises(TransportDown) as caught:
        await transport_to(resend_api.url_with("wrong")).probe()
    assert caught.value.phase is SmtpPhase.AUTH
    await resend_api.stop()
    with pytest.raises(TransportDown) as caught:
        await good.probe()
    assert caught.value.phase is SmtpPhase.CONNECT
    assert resend_api.requests == []


def test_the_key_is_shown_nowhere() -> None:
    endpoint = parse(f"resend+https://:{API_KEY}@api.resend.com")
    transport = ResendTransport(endpoint, name="default", max_connections=1, send_timeout_seconds=1)
    shown = f"{endpoint!r} {endpoint} {transport!r}"
    assert API_KEY not in shown
    assert endpoint.base_url == "https://api.resend.com"
    assert json.loads(content(transport).partition(b"\n")[2])["subject"] == "Hello"
