"""Opening an SMTP connection: TCP, TLS, greeting, EHLO, STARTTLS, AUTH. Knows no mail.

Every failure is a TransportDown with the phase it happened in and what an operator can do.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiosmtplib

from campaign_worker.errors import SmtpPhase, TransportDown
from campaign_worker.mail.reply import clean
from campaign_worker.mail.smtp_url import Security, SmtpEndpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RAILWAY_HINT = (
    "a firewall may block SMTP: Railway opens it on the Pro plan and above only,"
    " after a redeploy of the service"
)


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to connect. `transport` is the name that errors carry.

    `step_timeout_seconds` bounds each step: TCP with TLS, greeting, EHLO, STARTTLS, AUTH.
    """

    endpoint: SmtpEndpoint
    transport: str
    ehlo_name: str
    step_timeout_seconds: float
    ssl_context: ssl.SSLContext


async def connect(options: ConnectOptions) -> aiosmtplib.SMTP:
    """Give a connected, greeted and authenticated client. Raises errors.TransportDown."""
    endpoint = options.endpoint
    client = aiosmtplib.SMTP(
        hostname=endpoint.host,
        port=endpoint.port,
        local_hostname=options.ehlo_name,
        timeout=None,
        use_tls=endpoint.security is Security.TLS,
        start_tls=False,
        tls_context=options.ssl_context,
    )
    try:
        await _open(client, options)
        await _ehlo(client, options)
        if _wants_starttls(client, endpoint):
            await _starttls(client, options)
            await _ehlo(client, options)
        if endpoint.user is not None:
            await _login(client, options, endpoint.user, endpoint.password or "")
    except BaseException:
        abort(client)
        raise
    return client


def abort(client: aiosmtplib.SMTP) -> None:
    """Drop a connection at once; nothing that is still buffered goes out."""
    transport = cast("asyncio.WriteTransport | None", client.transport)
    if transport is not None:
        transport.abort()
    client.close()


def default_context(*, verify: bool) -> ssl.SSLContext:
    """Give a client context with the system's authorities; blocking, some 10 ms."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _wants_starttls(client: aiosmtplib.SMTP, endpoint: SmtpEndpoint) -> bool:
    """Whether to upgrade: demanded, or a password would otherwise cross the wire in clear."""
    if endpoint.security is Security.STARTTLS:
        return True
    plain = endpoint.security is Security.PLAIN and endpoint.user is not None
    return plain and client.supports_extension("starttls")


async def _open(client: aiosmtplib.SMTP, options: ConnectOptions) -> None:
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        await client.connect(timeout=options.step_timeout_seconds)
    except aiosmtplib.SMTPResponseException as error:
        raise _refused(options, SmtpPhase.GREETING, error) from error
    except aiosmtplib.SMTPException as error:
        # aiosmtplib names the step by the cause: its own errors come from reading the greeting.
        phase, problem = SmtpPhase.CONNECT, _connect_problem(options, error.__cause__)
        if isinstance(error.__cause__, aiosmtplib.SMTPException):
            phase, problem = SmtpPhase.GREETING, _lost_problem(options, error.__cause__)
        raise TransportDown(options.transport, phase, problem) from error
    except (OSError, UnicodeError) as error:
        problem = _connect_problem(options, error)
        raise TransportDown(options.transport, SmtpPhase.CONNECT, problem) from error
    if task and task.cancelling() > cancelled:
        # asyncio.wait_for of Python 3.11, used inside, can lose a cancellation.
        raise asyncio.CancelledError


async def _ehlo(client: aiosmtplib.SMTP, options: ConnectOptions) -> None:
    async with _step(options, SmtpPhase.EHLO):
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            # RFC 5321, 3.2: a server that does not know EHLO is greeted with HELO.
            if error.code not in {500, 501, 502, 504, 550} or not client.is_connected:
                raise
            await client.helo()


async def _starttls(client: aiosmtplib.SMTP, options: ConnectOptions) -> None:
    if not client.supports_extension("starttls"):
        problem = "the server does not offer STARTTLS; smtp:// or smtps:// may be what it wants"
        raise TransportDown(options.transport, SmtpPhase.STARTTLS, problem)
    async with _step(options, SmtpPhase.STARTTLS):
        await client.starttls()


async def _login(
    client: aiosmtplib.SMTP, options: ConnectOptions, user: str, password: str
) -> None:
    async with _step(options, SmtpPhase.AUTH):
        if not client.supports_extension("auth"):
            problem = "the server offers no AUTH"
            if options.endpoint.security is Security.PLAIN:
                problem += " without TLS; smtp+starttls:// or smtps:// may be what it wants"
            raise TransportDown(options.transport, SmtpPhase.AUTH, problem)
        try:
            await client.login(user, password)
        except ValueError as error:
            problem = "the server's AUTH challenge cannot be read"
            raise TransportDown(options.transport, SmtpPhase.AUTH, problem) from error


@asynccontextmanager
async def _step(options: ConnectOptions, phase: SmtpPhase) -> AsyncIterator[None]:
    """Bound a step of the dialogue, and translate what it raises."""
    try:
        async with asyncio.timeout(options.step_timeout_seconds):
            yield
    except aiosmtplib.SMTPResponseException as error:
        raise _refused(options, phase, error) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise TransportDown(options.transport, phase, _lost_problem(options, error)) from error


def _refused(
    options: ConnectOptions, phase: SmtpPhase, error: aiosmtplib.SMTPResponseException
) -> TransportDown:
    if error.code < 0:
        return TransportDown(options.transport, phase, "the server does not speak SMTP")
    problem = f"the server said {error.code} {clean(error.message)}"
    return TransportDown(options.transport, phase, problem, error.code)


def _lost_problem(options: ConnectOptions, error: BaseException | None) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {options.step_timeout_seconds:g} s"
        case ssl.SSLError():
            return _tls_problem(error)
        case aiosmtplib.SMTPServerDisconnected():
            return "the server closed the connection"
        case _:
            return clean(str(error)) or type(error).__name__


def _connect_problem(options: ConnectOptions, error: BaseException | None) -> str:
    where = f"{options.endpoint.host}:{options.endpoint.port}"
    match error:
        case TimeoutError():
            seconds = f"{options.step_timeout_seconds:g} s"
            return f"no connection to {where} within {seconds}; {RAILWAY_HINT}"
        case ssl.SSLError():
            return f"{_tls_problem(error)} ({where})"
        case socket.gaierror() | UnicodeError():
            return f"the name {options.endpoint.host} cannot be resolved"
        case ConnectionRefusedError():
            return f"nothing listens on {where}"
        case _:
            return f"no connection to {where}: {clean(str(error)) or type(error).__name__}"


def _tls_problem(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = clean(error.verify_message)
        return f"the certificate is not trusted: {reason}; ?tls_verify=false accepts any"
    reason = clean(str(error.reason or error))
    return f"TLS failed: {reason}; is the scheme right for this port?"
