"""The SMTP transport of delivery: pooled connections, one mail per session, exact phases.

A mail that meets a connection the server has closed meanwhile is tried once more on a fresh one,
inside `send`: nothing of it had gone out.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from campaign_worker.delivery.model import Accepted, Composed, Envelope
from campaign_worker.errors import SettingsError, SmtpLost, SmtpRefused, TransportDown
from campaign_worker.mail.connect import ConnectOptions, connect, default_context
from campaign_worker.mail.dialogue import BeforeDot, Connection, Prepared, prepare
from campaign_worker.mail.pool import QUIT_SECONDS, Lease, Pool, PoolOptions
from campaign_worker.mail.smtp_url import SmtpEndpoint
from metrics import Listener, SmtpConnected
from shutdown import Deadline

_CLOSING = 421
_EHLO_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[A-Za-z0-9.:]+\]")


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a server said of itself; `extensions` are EHLO's keywords in lower case."""

    endpoint: str
    tls: bool
    extensions: tuple[str, ...]


class SmtpSession:
    """A place in the pool, held for one mail. Fulfils delivery.ports.Session."""

    def __init__(self, lease: Lease, transport: SmtpTransport) -> None:
        self._lease = lease
        self._transport = transport

    async def send(self, envelope: Envelope, content: bytes, before_dot: BeforeDot) -> Accepted:
        """Send one mail; `before_dot` is awaited between the 354 and the first byte of the body.

        Up to the 354 the dialogue takes at most `send_timeout_seconds`, the body and its reply at
        most `reply_timeout_seconds`; `before_dot` is not bounded here. Raises errors.SmtpRefused;
        errors.SmtpLost, whose phase BODY alone leaves the outcome unknown; errors.TransportDown
        when a connection had gone stale and no other can be opened; what `before_dot` raises comes
        through.
        """
        mail = prepare(envelope, content)
        await self._begin(mail)
        transport = self._transport
        return await self._lease.connection.finish(
            mail, before_dot, transport.send_timeout_seconds, transport.reply_timeout_seconds
        )

    async def _begin(self, mail: Prepared) -> None:
        transport = self._transport
        connection = self._lease.connection
        if connection.mails == 0:
            await connection.begin(mail, transport.send_timeout_seconds)
            return
        try:
            # A firewall may have forgotten the connection: that must not cost a full timeout.
            seconds = min(transport.send_timeout_seconds, transport.connect_timeout_seconds)
            await connection.begin(mail, seconds)
        except (SmtpLost, SmtpRefused) as error:
            if isinstance(error, SmtpRefused) and error.code != _CLOSING:
                raise
            await self._lease.replace()
            fresh = self._lease.connection
            await fresh.begin(mail, transport.send_timeout_seconds)


class SmtpTransport:
    """One SMTP server with a bounded number of connections. Fulfils delivery.ports.Transport.

    `ssl_context` None: the system's authorities. `listener` hears SmtpConnected;
    delivery, which knows what became of a mail, tells MailSent.
    """

    def __init__(  # noqa: PLR0913 - settings of one server, passed by name
        self,
        endpoint: SmtpEndpoint,
        *,
        name: str,
        max_connections: int,
        ehlo_name: str,
        send_timeout_seconds: float,
        reply_timeout_seconds: float = 600.0,
        idle_timeout_seconds: float = 15.0,
        messages_per_connection: int = 100,
        connect_timeout_seconds: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        listener: Listener | None = None,
    ) -> None:
        if not _EHLO_NAME.fullmatch(ehlo_name):
            raise SettingsError("EHLO_NAME", "must be a host name, or an address in brackets")
        self._endpoint = endpoint
        self._name = name
        self._ehlo_name = ehlo_name
        self.send_timeout_seconds = send_timeout_seconds
        self.reply_timeout_seconds = reply_timeout_seconds
        self.connect_timeout_seconds = connect_timeout_seconds
        self._ssl_context = ssl_context
        self._listener = listener
        options = PoolOptions(name, max_connections, idle_timeout_seconds, messages_per_connection)
        self._pool = Pool(self._connect, options)

    def __repr__(self) -> str:
        return f"SmtpTransport({self._name}, {self._endpoint})"

    @property
    def name(self) -> str:
        """The name that campaigns choose it by."""
        return self._name

    @property
    def replay_seconds(self) -> None:
        """None: SMTP sends what it is given, however often."""
        return None

    def prepare(self, mail: Composed, _key: str) -> bytes:
        """Give the message's own bytes; SMTP knows no keys."""
        return mail.content

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[SmtpSession]:
        """Wait (FIFO) for a connected, authenticated session. Raises errors.TransportDown."""
        async with self._pool.lease() as lease:
            yield SmtpSession(lease, self)

    async def probe(self) -> ProbeReport:
        """Connect, greet, authenticate, QUIT: for `check`. Raises errors.TransportDown."""
        client = await connect(await self._connect_options())
        report = ProbeReport(
            endpoint=str(self._endpoint),
            tls=client.get_transport_info("sslcontext") is not None,
            extensions=tuple(sorted(client.esmtp_extensions)),
        )
        await Connection(client).quit(QUIT_SECONDS)
        return report

    async def close(self, deadline: Deadline) -> None:
        """Close all connections: QUIT where idle, at most a second; what is in use is cut."""
        await self._pool.close(deadline)

    async def _connect(self) -> Connection:
        began = time.monotonic()
        result = "interrupted"
        try:
            client = await connect(await self._connect_options())
            result = "ok"
        except TransportDown as error:
            result = error.phase.value
            raise
        finally:
            if self._listener is not None:
                seconds = time.monotonic() - began
                self._listener.on_event(SmtpConnected(self._name, seconds, result))
        return Connection(client)

    async def _connect_options(self) -> ConnectOptions:
        if self._ssl_context is None:
            # Reading the authorities takes some 10 ms of blocking work, once.
            verify = self._endpoint.verify_tls
            self._ssl_context = await asyncio.to_thread(default_context, verify=verify)
        return ConnectOptions(
            endpoint=self._endpoint,
            transport=self._name,
            ehlo_name=self._ehlo_name,
            step_timeout_seconds=self.connect_timeout_seconds,
            ssl_context=self._ssl_context,
        )
