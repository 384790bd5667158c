"""The SMTP sink keeps what it accepts and misbehaves on command."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from typing import TYPE_CHECKING

import aiosmtplib
import pytest

from campaign_worker.embedded.smtp_script import (
    Answer,
    Hangup,
    Moment,
    Question,
    Reply,
    Silence,
    by_recipient,
    first_of,
)
from campaign_worker.embedded.smtp_server import ReceivedMail
from campaign_worker.embedded.smtp_sink import SmtpSinkProcess
from campaign_worker.errors import EmbeddedServerError
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from campaign_worker.embedded.smtp_server import SmtpSink
    from tests.fixtures.smtp import Certificate

MAIL = b"Message-ID: <1@shop.test>\r\nSubject: hello\r\n\r\n.dot\r\nbye\r\n"


def client_of(sink: SmtpSink | SmtpSinkProcess, **options: object) -> aiosmtplib.SMTP:
    settings = {"hostname": "127.0.0.1", "port": sink.port, "timeout": 5, "start_tls": False}
    return aiosmtplib.SMTP(**settings | options)  # type: ignore[arg-type]  # options of several types


async def send(sink: SmtpSink | SmtpSinkProcess, *to: str, **options: object) -> str:
    async with client_of(sink, **options) as client:
        _, reply = await client.sendmail("from@shop.test", list(to), MAIL)
        return reply


async def test_a_mail_is_kept_with_its_envelope_and_exact_bytes(smtp_sink: SmtpSink) -> None:
    await send(smtp_sink, "a@x.test", "b@x.test", local_hostname="worker.test")
    (mail,) = smtp_sink.mails
    assert mail.content == MAIL
    assert (mail.message_id, mail.sender) == ("<1@shop.test>", "from@shop.test")
    assert mail.recipients == ("a@x.test", "b@x.test")
    assert (mail.size, mail.connection, mail.ehlo_name) == (len(MAIL), 1, "worker.test")
    assert smtp_sink.accepted == {"a@x.test": 1, "b@x.test": 1}


async def test_a_first_try_can_be_greylisted(smtp_sink: SmtpSink) -> None:
    smtp_sink.script = by_recipient(Moment.RCPT, {"a@x.test": "451 4.7.1 later"}, tries=1)
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refused:
        await send(smtp_sink, "a@x.test")
    assert refused.value.recipients[0].code == 451
    await send(smtp_sink, "a@x.test")
    assert smtp_sink.accepted["a@x.test"] == 1


async def test_some_addresses_can_be_unknown(smtp_sink: SmtpSink) -> None:
    smtp_sink.script = first_of(
        by_recipient(Moment.RCPT, {"gone@x.test": "550 5.1.1 unknown"}),
        by_recipient(Moment.RCPT, {"full@x.test": "452 4.2.2 full"}),
    )
    async with client_of(smtp_sink) as client:
        errors, _ = await client.sendmail(
            "f@shop.test", ["gone@x.test", "ok@x.test", "full@x.test"], MAIL
        )
    assert {address: reply.code for address, reply in errors.items()} == {
        "gone@x.test": 550,
        "full@x.test": 452,
    }
    assert smtp_sink.mails[0].recipients == ("ok@x.test",)


@pytest.mark.parametrize("moment", [Moment.GREETING, Moment.EHLO, Moment.MAIL, Moment.DATA])
async def test_a_refusal_can_come_at_any_moment(smtp_sink: SmtpSink, moment: Moment) -> None:
    def refuse(question: Question) -> str | None:
        return "554 5.7.1 no" if question.moment is moment else None

    smtp_sink.script = refuse
    with pytest.raises(aiosmtplib.SMTPException, match="no"):
        await send(smtp_sink, "a@x.test")
    assert smtp_sink.mails == []


async def test_a_reply_may_hold_any_byte(smtp_sink: SmtpSink) -> None:
    raw = b"250 2.0.0 ok \x00 \xff\xfe"
    smtp_sink.script = by_recipient(Moment.DOT, {"a@x.test": raw})
    reader, writer = await asyncio.open_connection("127.0.0.1", smtp_sink.port)
    writer.write(b"EHLO me\r\nMAIL FROM:<f@s.test>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nx\r\n.\r\n")
    answer = await reader.readuntil(raw + b"\r\n")
    writer.close()
    await writer.wait_closed()
    assert answer.count(b"250 OK") == 2
    assert len(smtp_sink.mails) == 1


async def test_a_reply_can_close_the_connection(smtp_sink: SmtpSink) -> None:
    smtp_sink.script = by_recipient(
        Moment.RCPT, {"a@x.test": Reply("421 4.3.2 going", then_close=True)}
    )
    with pytest.raises(aiosmtplib.SMTPException):
        await send(smtp_sink, "a@x.test")
    await eventually(lambda: smtp_sink.open_connections == 0)


@pytest.mark.parametrize(
    ("moment", "answer", "kept"),
    [
        (Moment.DATA, Hangup(), 0),
        (Moment.DOT, Hangup(), 0),
        (Moment.DOT, Hangup(accept=True), 1),
        (Moment.DOT, Silence(), 0),
        (Moment.DOT, Silence(accept=True), 1),
    ],
)
async def test_an_answer_can_be_missing(
    smtp_sink: SmtpSink, moment: Moment, answer: Answer, kept: int
) -> None:
    smtp_sink.script = by_recipient(moment, {"a@x.test": answer})
    with pytest.raises((aiosmtplib.SMTPException, TimeoutError)):
        await send(smtp_sink, "a@x.test", timeout=0.3)
    assert len(smtp_sink.mails) == kept


async def test_replies_to_the_dot_can_be_held(smtp_sink: SmtpSink) -> None:
    smtp_sink.hold()
    sends = [asyncio.create_task(send(smtp_sink, f"{n}@x.test")) for n in range(3)]
    await smtp_sink.wait_at_dot(3)
    assert smtp_sink.mails == []
    smtp_sink.release()
    await smtp_sink.wait_mails(3)
    assert len(await asyncio.gather(*sends)) == 3


async def test_a_client_that_leaves_after_the_dot_does_not_take_the_mail_back(
    smtp_sink: SmtpSink,
) -> None:
    smtp_sink.hold()
    _, writer = await asyncio.open_connection("127.0.0.1", smtp_sink.port)
    writer.write(b"EHLO me\r\nMAIL FROM:<f@s.test>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nx\r\n.\r\n")
    await smtp_sink.wait_at_dot(1)
    writer.transport.abort()
    await eventually(lambda: smtp_sink.open_connections == 0)
    smtp_sink.release()
    await smtp_sink.wait_mails(1)
    assert smtp_sink.accepted["a@x.test"] == 1


async def test_a_stopped_sink_comes_back_on_its_port_with_what_it_had(smtp_sink: SmtpSink) -> None:
    await send(smtp_sink, "a@x.test")
    await smtp_sink.stop()
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(smtp_sink, "b@x.test")
    await smtp_sink.start()
    await send(smtp_sink, "b@x.test")
    assert smtp_sink.accepted == {"a@x.test": 1, "b@x.test": 1}


async def test_starttls_and_auth_can_be_demanded(
    own_sink: Callable[..., Awaitable[SmtpSink]], certificate: Certificate
) -> None:
    sink = await own_sink(starttls=certificate.server_context, credentials=("user", "p:w"))
    assert sink.url == f"smtp+starttls://user:p%3Aw@127.0.0.1:{sink.port}"
    trust = ssl.create_default_context(cafile=str(certificate.file))
    tls: dict[str, object] = {"start_tls": True, "tls_context": trust}
    with pytest.raises(aiosmtplib.SMTPException, match="STARTTLS"):
        await send(sink, "a@x.test")
    with pytest.raises(aiosmtplib.SMTPException, match="Authentication required"):
        await send(sink, "a@x.test", **tls)
    with pytest.raises(aiosmtplib.SMTPAuthenticationError):
        await send(sink, "a@x.test", **tls, username="user", password="x")
    await send(sink, "a@x.test", **tls, username="user", password="p:w")
    assert sink.accepted["a@x.test"] == 1


async def test_tls_can_begin_with_the_first_byte(
    own_sink: Callable[..., Awaitable[SmtpSink]], certificate: Certificate
) -> None:
    sink = await own_sink(tls=certificate.server_context, credentials=("user", "pw"))
    trust = ssl.create_default_context(cafile=str(certificate.file))
    implicit: dict[str, object] = {"use_tls": True, "start_tls": None, "tls_context": trust}
    await send(
        sink,
        "a@x.test",
        **implicit,
        username="user",
        password="pw",
    )
    assert sink.accepted["a@x.test"] == 1


@pytest.mark.parametrize("offered", [True, False])
async def test_smtputf8_is_offered_or_not(
    own_sink: Callable[..., Awaitable[SmtpSink]], offered: bool
) -> None:
    sink = await own_sink(smtputf8=offered)
    async with client_of(sink) as client:
        await client.ehlo()
        assert client.supports_extension("smtputf8") is offered


async def test_the_process_keeps_mails_over_a_kill(tmp_path: Path) -> None:
    async with SmtpSinkProcess(tmp_path, latency_ms=5) as sink:
        await send(sink, "a@x.test")
        await sink.kill()
        with pytest.raises(aiosmtplib.SMTPConnectError):
            await send(sink, "b@x.test")
        await sink.restart()
        await send(sink, "b@x.test")
        assert [mail.recipients for mail in sink.mails()] == [("a@x.test",), ("b@x.test",)]
        assert sink.count() == 2


async def test_a_line_cut_by_a_kill_is_no_mail(tmp_path: Path) -> None:
    sink = SmtpSinkProcess(tmp_path)
    async with sink:
        await send(sink, "a@x.test")
    with sink.store.open("a") as file:
        file.write('{"message_id": "<2')
    assert len(sink.mails()) == 1


async def test_the_process_keeps_whole_mails_where_it_is_told_to(tmp_path: Path) -> None:
    async with SmtpSinkProcess(tmp_path / "lean") as lean:
        await send(lean, "a@x.test")
    assert not lean.contents.exists()
    async with SmtpSinkProcess(tmp_path / "whole", keep_contents=True) as sink:
        await send(sink, "a@x.test")
        (line,) = sink.contents.read_text().splitlines()
        mail = ReceivedMail.from_json(line)
        assert (mail.recipients, mail.content) == (("a@x.test",), MAIL)
        assert [each.content for each in sink.mails()] == [b""]


async def test_a_frozen_process_answers_nothing_until_it_thaws(tmp_path: Path) -> None:
    async with SmtpSinkProcess(tmp_path) as sink:
        sink.freeze()
        with pytest.raises((aiosmtplib.SMTPException, TimeoutError)):
            await send(sink, "a@x.test", timeout=0.3)
        sink.thaw()
        await send(sink, "a@x.test")
        assert sink.count() >= 1


async def test_the_standard_library_client_gets_through(smtp_sink: SmtpSink) -> None:
    def talk() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", smtp_sink.port, timeout=5) as client:
            return client.sendmail("f@s.test", ["a@x.test"], MAIL)

    assert await asyncio.to_thread(talk) == {}
    assert smtp_sink.mails[0].content == MAIL


async def test_a_sink_of_somebody_else_on_the_port_is_not_ours(
    smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    with pytest.raises(EmbeddedServerError, match="already in use"):
        await SmtpSinkProcess(tmp_path, port=smtp_sink.port).start()
