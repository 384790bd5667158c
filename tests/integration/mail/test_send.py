"""Sending: the phase of every ending, the order around the final dot, what goes over the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from campaign_worker.delivery.model import Accepted, Envelope, Refusal
from campaign_worker.embedded.smtp_script import (
    Hangup,
    Moment,
    Reply,
    Silence,
    by_recipient,
)
from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.errors import AddressError, SmtpLost, SmtpPhase, SmtpRefused
from campaign_worker.mail.dialogue import to_body
from tests.integration.mail.conftest import CONTENT, MakeServer, MakeTransport, answer, send
from tests.support import eventually

MOMENTS = {
    Moment.MAIL: SmtpPhase.MAIL,
    Moment.RCPT: SmtpPhase.RCPT,
    Moment.DATA: SmtpPhase.DATA,
    Moment.DOT: SmtpPhase.BODY,
}


class Mark:
    """Counts the calls of before_dot."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1


async def test_a_mail_is_accepted(smtp_sink: SmtpSink, transport_to: MakeTransport) -> None:
    mark = Mark()
    accepted = await send(transport_to(smtp_sink.url), before_dot=mark)
    assert accepted.reply.startswith("2.0.0")
    assert mark.calls == 1
    (mail,) = smtp_sink.mails
    assert (mail.sender, mail.recipients, mail.content) == (
        "s@a.example",
        ("r@b.example",),
        CONTENT,
    )


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("line", "code", "enhanced", "text"),
    [
        ("451 4.7.1 Greylisted, try again in 300 seconds", 451, "4.7.1", "4.7.1 Greylisted"),
        ("550 No such user", 550, None, "No such user"),
        ("550 no mailbox (#5.1.1)", 550, "5.1.1", "no mailbox"),
        (
            b"554 5.7.1 \xff\x00\x1b[31m bad\t\xe2\x80\xa8 text",
            554,
            "5.7.1",
            "5.7.1 \ufffd [31m bad",
        ),
        (
            b"550-5.1.1 first\r\n550-5.1.1 second\r\n550 5.1.1 third",
            550,
            "5.1.1",
            "5.1.1 first 5.1.1",
        ),
        (b"550 " + b"x" * 3000, 550, None, "x" * 500),
    ],
)
async def test_a_refusal_carries_phase_code_and_a_clean_text(
    smtp_sink: SmtpSink, transport_to: MakeTransport, moment: Moment, line: Any, code: int,
    enhanced: str | None, text: str,
) -> None:  # fmt: skip
    smtp_sink.script = lambda q: Reply(line) if q.moment is moment else None
    mark = Mark()
    with pytest.raises(SmtpRefused) as caught:
        await send(transport_to(smtp_sink.url), before_dot=mark)
    error = caught.value
    assert (error.phase, error.code, error.enhanced) == (MOMENTS[moment], code, enhanced)
    assert error.text.startswith(text)
    assert error.text.isprintable()
    assert len(error.text) <= 500
    assert mark.calls == (moment is Moment.DOT)
    assert smtp_sink.mails == []


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "ending",
    [Hangup(), Silence(), Reply(b"what?"), Reply(b"999 odd"), Reply(b"354 go"), Reply(b"x" * 9000)],
    ids=lambda ending: str(ending)[:20],
)
async def test_a_lost_answer_carries_its_phase(
    smtp_sink: SmtpSink, transport_to: MakeTransport, moment: Moment, ending: Any
) -> None:
    if moment is Moment.DATA and ending == Reply(b"354 go"):
        ending = Reply(b"250 out of step")
    smtp_sink.script = lambda q: ending if q.moment is moment else None
    mark = Mark()
    impatient = {"send_timeout_seconds": 0.5, "reply_timeout_seconds": 0.5}
    with pytest.raises(SmtpLost) as caught:
        await send(transport_to(smtp_sink.url, **impatient), before_dot=mark)
    assert caught.value.phase is MOMENTS[moment]
    assert mark.calls == (moment is Moment.DOT)
    # A dialogue out of step is never gone on with.
    smtp_sink.script = None
    await send(transport_to(smtp_sink.url))
    assert smtp_sink.mails[-1].connection == 2


async def test_the_answer_to_the_final_dot_may_take_longer_than_all_before_it(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    smtp_sink.latency_ms = 700
    accepted = await send(transport_to(smtp_sink.url, send_timeout_seconds=0.3))
    assert accepted.reply == "2.0.0 kept"


async def test_before_dot_is_awaited_after_the_354_and_before_any_byte_of_the_body(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    marking = asyncio.Event()
    go_on = asyncio.Event()
    commands: list[bytes] = []
    received: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 raw\r\n")
        commands.extend(await answer(reader, writer, b"250 raw", b"250 ok", b"250 ok", b"354 go"))
        received.append(await reader.readuntil(b"\r\n.\r\n"))
        writer.write(b"250 kept\r\n")
        await reader.read()

    async def before_dot() -> None:
        marking.set()
        await go_on.wait()

    sending = asyncio.create_task(
        send(transport_to(await raw_server(handler)), before_dot=before_dot)
    )
    await asyncio.wait_for(marking.wait(), 5)
    assert commands[-1] == b"DATA\r\n"
    assert received == []
    go_on.set()
    assert await sending == Accepted("kept")
    assert received == [CONTENT + b".\r\n"]


async def test_nothing_of_the_body_goes_out_when_before_dot_raises(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    rest: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 raw\r\n")
        await answer(reader, writer, b"250 raw", b"250 ok", b"250 ok", b"354 go")
        rest.set_result(await reader.read())

    async def before_dot() -> None:
        raise LookupError("the claim is lost")

    with pytest.raises(LookupError):
        await send(transport_to(await raw_server(handler)), before_dot=before_dot)
    assert await asyncio.wait_for(rest, 5) == b""


async def test_a_connection_that_ends_while_the_mark_is_made_is_lost_before_the_body(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 raw\r\n")
        await answer(reader, writer, b"250 raw", b"250 ok", b"250 ok", b"354 go")
        writer.write(b"421 4.4.2 too slow\r\n")
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with transport_to(await raw_server(handler)).slot() as session:

        async def before_dot() -> None:
            await closed.wait()
            connection = session._lease.connection
            await eventually(lambda: not connection._client.is_connected)

        with pytest.raises(SmtpLost) as caught:
            await session.send(Envelope("s@a.example", ("r@b.example",)), CONTENT, before_dot)
    assert caught.value.phase is SmtpPhase.DATA


async def test_a_cancelled_send_never_leaves_its_connection_to_others(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    transport = transport_to(smtp_sink.url, max_connections=1)
    smtp_sink.hold()
    sending = asyncio.create_task(send(transport))
    await smtp_sink.wait_at_dot(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    smtp_sink.release()
    await send(transport, "second@b.example")
    assert smtp_sink.mails[-1].recipients == ("second@b.example",)
    assert smtp_sink.mails[-1].connection == 2


async def test_some_recipients_refused_are_told_beside_the_acceptance(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    smtp_sink.script = by_recipient(Moment.RCPT, {"no@b.example": "550 5.1.1 unknown"})
    accepted = await send(transport_to(smtp_sink.url), "yes@b.example", "no@b.example")
    assert accepted.refused == (Refusal("no@b.example", 550, "5.1.1", "5.1.1 unknown"),)
    assert smtp_sink.mails[0].recipients == ("yes@b.example",)


async def test_when_all_are_refused_the_mildest_refusal_stands_for_them(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    smtp_sink.script = by_recipient(
        Moment.RCPT,
        {"a@b.example": "550 5.1.1 unknown", "b@b.example": "450 busy", "c@b.example": "554 no"},
    )
    with pytest.raises(SmtpRefused) as caught:
        await send(transport_to(smtp_sink.url), "a@b.example", "b@b.example", "c@b.example")
    assert (caught.value.phase, caught.value.code) == (SmtpPhase.RCPT, 450)


async def test_a_421_for_one_recipient_ends_the_mail(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    smtp_sink.script = by_recipient(Moment.RCPT, {"b@b.example": Reply("421 4.7.0 slow down")})
    with pytest.raises(SmtpRefused) as caught:
        await send(transport_to(smtp_sink.url), "a@b.example", "b@b.example")
    assert caught.value.code == 421
    assert smtp_sink.mails == []
    await eventually(lambda: smtp_sink.open_connections == 0)


async def test_smtputf8_where_it_is_offered(
    smtp_sink: SmtpSink, transport_to: MakeTransport
) -> None:
    content = "To: jürgen@b.example\r\n\r\n".encode()
    await send(transport_to(smtp_sink.url), "jürgen@b.example", content=content, smtputf8=True)
    (mail,) = smtp_sink.mails
    assert (mail.smtputf8, mail.recipients, mail.content) == (True, ("jürgen@b.example",), content)


async def test_smtputf8_where_it_is_not_offered_is_refused_before_a_word(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    sink = await own_sink(smtputf8=False)
    transport = transport_to(sink.url)
    with pytest.raises(SmtpRefused) as caught:
        await send(transport, "jürgen@b.example", smtputf8=True)
    error = caught.value
    assert (error.phase, error.code, error.enhanced) == (SmtpPhase.MAIL, 553, "5.6.7")
    assert "does not offer SMTPUTF8" in error.text
    await send(transport)
    assert sink.mails[0].connection == 1


async def test_a_mail_beyond_the_offered_size_is_refused_before_a_word(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    sink = await own_sink(size_limit=1000)
    with pytest.raises(SmtpRefused) as caught:
        await send(transport_to(sink.url), content=b"x" * 1001)
    assert (caught.value.phase, caught.value.enhanced) == (SmtpPhase.MAIL, "5.3.4")


@pytest.mark.parametrize(
    "recipients",
    [(), ("a@b.example> SIZE=1",), ("a@b.example\r\nRSET",), ("jürgen@b.example",)],
)
async def test_an_envelope_that_could_end_its_line_never_reaches_the_server(
    smtp_sink: SmtpSink, transport_to: MakeTransport, recipients: tuple[str, ...]
) -> None:
    async with transport_to(smtp_sink.url).slot() as session:
        with pytest.raises(AddressError):
            await session.send(Envelope("s@a.example", recipients), CONTENT, Mark())


_BYTES = st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"x", b"..", b"\r\n.\r\n"])).map(
    b"".join
)


@given(_BYTES | st.binary(max_size=50))
@settings(deadline=None)
@example(b"")
@example(b".\r\n")
@example(b"a\r\n.")
def test_a_body_ends_once_and_unstuffs_to_normalized_content(content: bytes) -> None:
    body = to_body(content)
    assert body.endswith(b".\r\n")
    lines = body.split(b"\r\n")[:-1]
    assert lines[-1] == b"."
    assert b"." not in lines[:-1]
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    received = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-1])
    normalized = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert received == normalized + (
        b"" if normalized.endswith(b"\r\n") or not normalized else b"\r\n"
    )


@given(content=_BYTES)
@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
async def test_any_content_arrives_as_it_was(
    smtp_sink: SmtpSink, transport_to: MakeTransport, content: bytes
) -> None:
    transport = transport_to(smtp_sink.url)
    head = b"Subject: s\r\n\r\n"
    await send(transport, content=head + content + b"\r\n")
    expected = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert smtp_sink.mails[-1].content == head + expected + b"\r\n"


@pytest.mark.parametrize(
    ("verb", "said", "phase"),
    [
        (b"MAIL", b"250 ok\r\n550 5.1.1 no such user\r\n", SmtpPhase.RCPT),
        (b"RCPT", b"250 ok\r\n354 go ahead\r\n", SmtpPhase.DATA),
        (b"DATA", b"354 go ahead\r\n552 5.2.2 full\r\n", SmtpPhase.DATA),
    ],
)
async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(
    raw_server: MakeServer, transport_to: MakeTransport, verb: bytes, said: bytes, phase: SmtpPhase
) -> None:
    server = TalksTooMuch({verb: said})
    with pytest.raises(SmtpLost) as caught:
        await send(transport_to(await raw_server(server)))
    assert caught.value.phase is phase
    assert server.bodies == 0


async def test_a_connection_on_which_more_was_said_than_asked_is_not_used_again(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    server = TalksTooMuch({b".": b"250 ok\r\n550 5.1.1 no such user\r\n"})
    transport = transport_to(await raw_server(server), max_connections=1)
    for _ in range(2):
        assert (await send(transport)).reply == "ok"
    assert (server.bodies, server.connections) == (2, 2)


class TalksTooMuch:
    """Serves SMTP, and answers some commands as told; `.` is the final dot."""

    def __init__(self, told: dict[bytes, bytes]) -> None:
        self._told = told
        self.bodies = self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"220 hello\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            usual = b"354 go ahead\r\n" if verb == b"DATA" else b"250 ok\r\n"
            writer.write(self._told.get(verb, usual))
            if verb == b"DATA":
                await reader.readuntil(b"\r\n.\r\n")
                self.bodies += 1
                writer.write(self._told.get(b".", b"250 ok\r\n"))
