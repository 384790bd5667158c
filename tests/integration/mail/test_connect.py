"""Connecting: every failure is a TransportDown that names its phase and what can be done."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from campaign_worker.embedded.smtp_script import Hangup, Moment, Question, Reply, Silence
from campaign_worker.errors import SettingsError, SmtpPhase, TransportDown
from campaign_worker.mail.smtp import SmtpTransport
from campaign_worker.mail.smtp_url import parse
from metrics import Event, SmtpConnected
from shutdown import Deadline
from tests.fixtures.smtp import Certificate
from tests.integration.mail.conftest import MakeServer, MakeTransport, send
from tests.support import eventually, free_port


async def down(transport: SmtpTransport) -> TransportDown:
    with pytest.raises(TransportDown) as caught:
        await send(transport)
    assert caught.value.transport == "default"
    return caught.value


def client_context(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.file))


async def test_nobody_listens(transport_to: MakeTransport) -> None:
    error = await down(transport_to(f"smtp://127.0.0.1:{free_port()}"))
    assert error.phase is SmtpPhase.CONNECT
    assert "nothing listens on 127.0.0.1" in error.problem


async def test_a_name_that_cannot_be_resolved(transport_to: MakeTransport) -> None:
    error = await down(transport_to("smtp://" + "a" * 64 + ".example"))
    assert error.phase is SmtpPhase.CONNECT
    assert "cannot be resolved" in error.problem


async def test_a_connection_that_is_swallowed_names_the_likely_cause(
    transport_to: MakeTransport,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # The kernel completes what the backlog holds and drops every later SYN.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)  # noqa: FBT003 - the signature of socket
            filler.connect_ex(("127.0.0.1", port))
        error = await down(transport_to(f"smtp://127.0.0.1:{port}", connect_timeout_seconds=0.3))
        for filler in fillers:
            filler.close()
    assert error.phase is SmtpPhase.CONNECT
    assert "within 0.3 s" in error.problem
    assert "Railway opens it on the Pro plan" in error.problem


@pytest.mark.parametrize(
    ("answer", "problem", "code"),
    [
        (Reply("554 5.7.1 You are listed", then_close=True), "554 5.7.1 You are listed", 554),
        (Reply("421 4.3.2 Shutting down", then_close=True), "421 4.3.2 Shutting down", 421),
        (Hangup(), "closed the connection", None),
        (Silence(), "no answer within 0.5 s", None),
        (Reply(b"HTTP/1.1 400 Bad Request"), "does not speak SMTP", None),
    ],
)
async def test_a_bad_greeting(
    own_sink: Any, transport_to: MakeTransport, answer: Any, problem: str, code: int | None
) -> None:
    sink = await own_sink(script=lambda q: answer if q.moment is Moment.GREETING else None)
    error = await down(transport_to(sink.url, connect_timeout_seconds=0.5))
    assert (error.phase, error.code) == (SmtpPhase.GREETING, code)
    assert problem in error.problem


@pytest.mark.parametrize("greeting", [b"", b"no SMTP\r\n", b"554 no\r\n", b"220-begin\r\n"])
async def test_a_bad_greeting_leaves_no_connection_open(
    raw_server: MakeServer, transport_to: MakeTransport, greeting: bytes
) -> None:
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        ended.set()

    url = await raw_server(handler)
    error = await down(transport_to(url, connect_timeout_seconds=0.3))
    assert error.phase is SmtpPhase.GREETING
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize(
    ("answer", "code"), [("550 5.7.0 Go away", 550), (Hangup(), None), (Silence(), None)]
)
async def test_ehlo_refused(
    own_sink: Any, transport_to: MakeTransport, answer: Any, code: int | None
) -> None:
    sink = await own_sink(script=lambda q: answer if q.moment is Moment.EHLO else None)
    error = await down(transport_to(sink.url, connect_timeout_seconds=0.5))
    assert (error.phase, error.code) == (SmtpPhase.EHLO, code)
    await eventually(lambda: sink.open_connections == 0)


async def test_a_server_without_ehlo_is_greeted_with_helo(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    def script(question: Question) -> str | None:
        ehlo = question.moment is Moment.EHLO and question.attempt == 1
        return "502 5.5.1 Command not known" if ehlo else None

    sink = await own_sink(script=script)
    assert (await send(transport_to(sink.url))).refused == ()
    assert len(sink.mails) == 1


async def test_starttls_and_auth_against_a_server_that_demands_them(
    own_sink: Any, transport_to: MakeTransport, certificate: Certificate
) -> None:
    sink = await own_sink(
        starttls=certificate.server_context, credentials=("ann@b.example", "p/w #%")
    )
    transport = transport_to(sink.url, ssl_context=client_context(certificate))
    await send(transport)
    assert sink.mails[0].ehlo_name == "worker.example"
    report = await transport.probe()
    assert report.tls
    assert "auth" in report.extensions


async def test_tls_from_the_first_byte(
    own_sink: Any, transport_to: MakeTransport, certificate: Certificate
) -> None:
    sink = await own_sink(tls=certificate.server_context)
    await send(transport_to(sink.url, ssl_context=client_context(certificate)))
    assert len(sink.mails) == 1


async def test_a_password_does_not_cross_in_clear_where_the_server_offers_starttls(
    own_sink: Any, transport_to: MakeTransport, certificate: Certificate
) -> None:
    sink = await own_sink(starttls=certificate.server_context, credentials=("u", "p"))
    url = sink.url.replace("smtp+starttls", "smtp")
    report = await transport_to(url, ssl_context=client_context(certificate)).probe()
    assert report.tls


@pytest.mark.parametrize("kind", ["starttls", "tls"])
async def test_an_untrusted_certificate(
    own_sink: Any, transport_to: MakeTransport, certificate: Certificate, kind: str
) -> None:
    sink = await own_sink(**{kind: certificate.server_context})
    error = await down(transport_to(sink.url))
    expected = SmtpPhase.STARTTLS if kind == "starttls" else SmtpPhase.CONNECT
    assert error.phase is expected
    assert "the certificate is not trusted" in error.problem
    assert "?tls_verify=false" in error.problem
    await send(transport_to(sink.url + "?tls_verify=false"))
    assert len(sink.mails) == 1


async def test_starttls_that_is_not_offered(own_sink: Any, transport_to: MakeTransport) -> None:
    sink = await own_sink()
    error = await down(transport_to(sink.url.replace("smtp:", "smtp+starttls:")))
    assert error.phase is SmtpPhase.STARTTLS
    assert "does not offer STARTTLS" in error.problem


async def test_tls_to_a_port_that_speaks_plain(own_sink: Any, transport_to: MakeTransport) -> None:
    sink = await own_sink()
    error = await down(transport_to(sink.url.replace("smtp:", "smtps:")))
    assert error.phase is SmtpPhase.CONNECT
    assert "TLS failed" in error.problem


async def test_a_wrong_password(own_sink: Any, transport_to: MakeTransport) -> None:
    sink = await own_sink(credentials=("ann", "right"))
    error = await down(transport_to(sink.url.replace("right", "wrong-one")))
    assert (error.phase, error.code) == (SmtpPhase.AUTH, 535)
    assert "wrong-one" not in str(error)


async def test_auth_that_is_not_offered(
    raw_server: MakeServer, transport_to: MakeTransport
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250 raw\r\n")
        await reader.read()

    url = (await raw_server(handler)).replace("//", "//u:p@")
    error = await down(transport_to(url))
    assert error.phase is SmtpPhase.AUTH
    assert "smtp+starttls://" in error.problem


async def test_connecting_is_told_to_the_listener(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    events: list[Event] = []

    class Recorder:
        def on_event(self, event: Event) -> None:
            events.append(event)

    sink = await own_sink(credentials=("u", "p"))
    await send(transport_to(sink.url, listener=Recorder()))
    await down(transport_to(sink.url.replace(":p@", ":x@"), listener=Recorder()))
    results = [event.result for event in events if isinstance(event, SmtpConnected)]
    assert results == ["ok", "auth"]


async def test_a_cancelled_connect_leaves_nothing_open(
    own_sink: Any, transport_to: MakeTransport
) -> None:
    sink = await own_sink(script=lambda q: Silence() if q.moment is Moment.EHLO else None)
    sending = asyncio.create_task(send(transport_to(sink.url)))
    await eventually(lambda: sink.open_connections == 1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await eventually(lambda: sink.open_connections == 0)


@pytest.mark.parametrize("name", ["", "a b", "a\r\nMAIL", "ü.example"])
def test_an_ehlo_name_that_could_end_the_line_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="EHLO_NAME"):
        SmtpTransport(
            parse("smtp://h"),
            name="x",
            max_connections=1,
            ehlo_name=name,
            send_timeout_seconds=1,
        )


async def test_a_closed_transport_says_so(own_sink: Any, transport_to: MakeTransport) -> None:
    sink = await own_sink()
    transport = transport_to(sink.url)
    await transport.close(Deadline.after(1))
    error = await down(transport)
    assert "closed" in error.problem
