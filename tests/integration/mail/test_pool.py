"""The pool: bounded, first come first served, reused, and never at the cost of a mail."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from campaign_worker.delivery.model import Envelope
from campaign_worker.embedded.smtp_script import Hangup, Moment, Question, Reply, Silence
from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.errors import SmtpLost, SmtpPhase, SmtpRefused, TransportDown
from shutdown import Deadline
from tests.integration.mail.conftest import (
    CONTENT,
    MakeServer,
    MakeTransport,
    answer,
    nothing,
    send,
)
from tests.support import eventually


async def test_connections_are_bounded_and_reused(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=3)
    await asyncio.gather(*(send(transport, f"r{n}@b.example") for n in range(30)))
    assert len(smtp_sink.mails) == 30
    assert smtp_sink.connections == 3


async def test_slots_are_given_in_the_order_of_asking(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=1)
    await asyncio.gather(*(send(transport, f"r{n}@b.example") for n in range(20)))
    assert [mail.recipients[0] for mail in smtp_sink.mails] == [
        f"r{n}@b.example" for n in range(20)
    ]


async def test_the_connection_used_last_is_used_first(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=3)
    await asyncio.gather(*(send(transport) for _ in range(3)))
    for _ in range(4):
        await send(transport)
    assert len({mail.connection for mail in smtp_sink.mails[3:]}) == 1


async def test_a_slot_is_not_given_while_the_server_is_gone(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    sink = await own_sink()
    transport = transport_to(sink.url)
    async with transport.slot() as session:
        kept = session._lease.connection
    await sink.stop()
    await eventually(lambda: not kept.reusable)
    with pytest.raises(TransportDown):
        async with transport.slot():
            pytest.fail("a slot without a connection")


async def test_a_connection_is_left_after_its_share_of_mails(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=1, messages_per_connection=3)
    for _ in range(7):
        await send(transport)
    assert [mail.connection for mail in smtp_sink.mails] == [1, 1, 1, 2, 2, 2, 3]
    await eventually(lambda: smtp_sink.open_connections == 1)


async def test_an_idle_connection_is_said_goodbye_to(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, idle_timeout_seconds=0.1)
    await send(transport)
    assert smtp_sink.open_connections == 1
    await eventually(lambda: smtp_sink.open_connections == 0)
    await send(transport)
    assert len(smtp_sink.mails) == 2


async def test_the_transaction_is_reset_after_a_refusal(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    commands: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 raw\r\n")
        commands.extend(await answer(reader, writer, b"250 raw", b"250 ok", b"550 no", b"250 ok"))
        commands.extend(await answer(reader, writer, b"250 ok", b"250 ok", b"354 go"))
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 kept\r\n")
        await reader.read()

    transport = transport_to(await raw_server(handler), max_connections=1)
    with pytest.raises(SmtpRefused):
        await send(transport)
    await send(transport)
    assert [command.split()[0] for command in commands] == [
        b"EHLO", b"MAIL", b"RCPT", b"RSET", b"MAIL", b"RCPT", b"DATA",
    ]  # fmt: skip


async def test_a_connection_that_the_server_has_cut_does_not_cost_the_mail(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url)
    await send(transport)
    await smtp_sink.drop_connections()
    await send(transport)
    assert [mail.connection for mail in smtp_sink.mails] == [1, 2]


@pytest.mark.parametrize(
    "ending", [Hangup(), Silence(), Reply("421 4.4.2 idle too long", then_close=True)]
)
async def test_a_stale_connection_that_shows_only_at_mail_is_replaced(
    smtp_sink: SmtpSink, transport_to: MakeTransport, ending: Any
) -> None:
    def script(question: Question) -> Any:
        stale = question.moment is Moment.MAIL and question.connection == 1
        return ending if stale and question.attempt == 2 else None

    smtp_sink.script = script
    transport = transport_to(smtp_sink.url, connect_timeout_seconds=0.5)
    await send(transport)
    await send(transport)
    assert [mail.connection for mail in smtp_sink.mails] == [1, 2]


async def test_a_fresh_connection_that_fails_as_well_is_not_tried_again(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url)
    await send(transport)
    smtp_sink.script = lambda q: Hangup() if q.moment is Moment.MAIL else None
    with pytest.raises(SmtpLost) as caught:
        await send(transport)
    assert caught.value.phase is SmtpPhase.MAIL
    assert smtp_sink.connections == 2


async def test_a_refusal_at_mail_on_a_reused_connection_is_an_answer(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url)
    await send(transport)
    smtp_sink.script = lambda q: "451 4.3.0 not now" if q.moment is Moment.MAIL else None
    with pytest.raises(SmtpRefused):
        await send(transport)
    assert smtp_sink.connections == 1


async def test_a_loss_after_mail_was_answered_is_never_tried_again(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url)
    await send(transport)
    smtp_sink.script = lambda q: Hangup() if q.moment is Moment.RCPT else None
    with pytest.raises(SmtpLost):
        await send(transport)
    assert smtp_sink.connections == 1


async def test_a_server_that_is_gone_when_a_stale_connection_shows_is_a_transport_down(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    sink = await own_sink()
    transport = transport_to(sink.url)
    await send(transport)
    async with transport.slot() as session:
        await sink.stop()
        with pytest.raises(TransportDown):
            await session.send(Envelope("s@a.example", ("r@b.example",)), CONTENT, nothing)
    assert len(sink.mails) == 1


@pytest.mark.parametrize("recipients", [["yes@b.example"], ["yes@b.example", "no@b.example"]])
async def test_a_mail_that_is_given_up_before_its_body_takes_its_connection_with_it(
    smtp_sink: SmtpSink, transport_to: MakeTransport, recipients: list[str]
) -> None:
    """The server waits for its content: the next one would be taken for it, and not be answered."""

    async def refuse() -> None:
        raise LookupError("no mark")

    smtp_sink.script = lambda q: "550 5.1.1 no" if q.recipient == "no@b.example" else None
    patient = {"send_timeout_seconds": 60, "connect_timeout_seconds": 60}
    transport = transport_to(smtp_sink.url, max_connections=1, **patient)
    with pytest.raises(LookupError):
        await send(transport, *recipients, before_dot=refuse)
    async with asyncio.timeout(5):
        await send(transport)
    assert [(mail.connection, mail.recipients) for mail in smtp_sink.mails] == [
        (2, ("r@b.example",))
    ]


async def test_a_421_closes_the_connection(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    smtp_sink.script = lambda q: "421 4.7.0 too much" if q.moment is Moment.DOT else None
    with pytest.raises(SmtpRefused):
        await send(transport_to(smtp_sink.url))
    await eventually(lambda: smtp_sink.open_connections == 0)


async def test_a_waiter_that_gives_up_does_not_take_a_place(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=1)
    async with transport.slot():
        waiting = asyncio.create_task(send(transport))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await send(transport)
    assert len(smtp_sink.mails) == 1


async def test_closing_says_quit_to_idle_connections(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url)
    await send(transport)
    await transport.close(Deadline.after(5))
    await eventually(lambda: smtp_sink.open_connections == 0)
    with pytest.raises(TransportDown, match="closed"):
        await send(transport)


async def test_a_connection_that_is_made_while_the_pool_closes_sends_nothing_and_is_dropped(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    there, greeted, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    said: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.set()
        await greeted.wait()
        writer.write(b"220 raw\r\n")
        said.extend(await answer(reader, writer, b"250 raw"))
        said.append(await reader.read())
        ended.set()

    transport = transport_to(await raw_server(handler))
    sending = asyncio.create_task(send(transport))
    await there.wait()
    await transport.close(Deadline.after(1))
    greeted.set()
    with pytest.raises(TransportDown, match="closed"):
        await sending
    await asyncio.wait_for(ended.wait(), 5)
    assert [line.split()[:1] for line in said] == [[b"EHLO"], []]


@pytest.mark.parametrize("seconds", [0, 0.2, 30])
async def test_closing_is_bounded_whatever_the_server_does(
    raw_server: MakeServer, transport_to: MakeTransport, seconds: float
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 raw\r\n")
        await answer(reader, writer, b"250 raw", b"250 ok", b"250 ok", b"354 go")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 kept\r\n")
        # QUIT is never answered.
        await reader.read()

    transport = transport_to(await raw_server(handler))
    await send(transport)
    began = time.monotonic()
    await transport.close(Deadline.after(seconds))
    assert time.monotonic() - began < min(seconds, 1) + 0.5


async def test_closing_cuts_what_is_still_in_use_and_wakes_who_waits(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=1)
    smtp_sink.hold()
    using = asyncio.create_task(send(transport))
    await smtp_sink.wait_at_dot(1)
    waiting = asyncio.create_task(send(transport))
    await asyncio.sleep(0)
    await transport.close(Deadline.after(1))
    with pytest.raises(SmtpLost) as caught:
        await asyncio.wait_for(using, 1)
    assert caught.value.phase is SmtpPhase.BODY
    with pytest.raises(TransportDown):
        await asyncio.wait_for(waiting, 1)
