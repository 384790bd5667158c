"""One connection of the SMTP sink: aiosmtpd's protocol, with scripted answers in its place.

Decides nothing about mails: what is accepted, and when, is the sink's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, LoginPassword

from campaign_worker.embedded.smtp_script import Answer, Hangup, Moment, Reply, Silence

if TYPE_CHECKING:
    import ssl

    from aiosmtpd.smtp import Envelope


_log = logging.getLogger(__name__)


class Host(Protocol):
    """What a connection asks of its sink."""

    def connected(self, session: Session) -> int:
        """Count a connection; returns its number, from 1."""

    def disconnected(self, session: Session) -> None:
        """Forget a connection."""

    def ask(self, moment: Moment, sender: str, recipient: str, connection: int) -> Answer | None:
        """Return the scripted answer of this moment, None for the usual one."""

    async def at_dot(self, session: Session, envelope: Envelope) -> Answer:
        """Take a mail that has come in whole; returns what to say."""


class Session(SMTP):
    """An SMTP dialogue whose every answer may come from the sink's script."""

    def __init__(
        self,
        host: Host,
        *,
        hostname: str,
        smtputf8: bool,
        size_limit: int,
        starttls: ssl.SSLContext | None,
        credentials: tuple[str, str] | None,
    ) -> None:
        with warnings.catch_warnings():
            # AUTH without TLS is for loopback and tests only, which aiosmtpd cannot know.
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(
                self,
                data_size_limit=size_limit,
                enable_SMTPUTF8=smtputf8,
                hostname=hostname,
                ident=f"sink {os.getpid()}",
                tls_context=starttls,
                require_starttls=starttls is not None,
                auth_required=credentials is not None,
                auth_require_tls=starttls is not None,
                authenticator=self._check,
                loop=asyncio.get_running_loop(),
            )
        self._host = host
        self._credentials = credentials
        self.number = 0
        self.ehlo_name = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; called again after STARTTLS."""
        if not self.number:
            self.number = self._host.connected(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._host.disconnected(self)
        super().connection_lost(error)

    async def close(self) -> None:
        """Drop the connection and wait for the end of its task."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        task = self._handler_coroutine
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _handle_client(self) -> None:
        with contextlib.suppress(ConnectionError):
            if not await self._answered(Moment.GREETING, ""):
                await super()._handle_client()

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802 - aiosmtpd's name
        """Answer EHLO."""
        self.ehlo_name = hostname or ""
        if not await self._answered(Moment.EHLO, ""):
            await super().smtp_EHLO(hostname)

    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802 - aiosmtpd's name
        """Answer HELO as EHLO: a client falls back to it."""
        self.ehlo_name = hostname or ""
        if not await self._answered(Moment.EHLO, ""):
            await super().smtp_HELO(hostname)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        """Answer AUTH."""
        if not await self._answered(Moment.AUTH, ""):
            await super().smtp_AUTH(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        """Answer DATA; the final dot is answered by handle_DATA."""
        accepted = self.envelope.rcpt_tos if self.envelope else []
        if not accepted or not await self._answered(Moment.DATA, accepted[0]):
            await super().smtp_DATA(arg)

    async def handle_exception(self, error: Exception) -> str:
        """Say so when the sink itself fails: a script that raises is a fault of the test."""
        _log.error("the sink failed", exc_info=error)
        return "451 4.3.0 the sink failed"

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self,
        _server: Any,
        _dialogue: Any,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> Any:
        """Accept a sender unless the script says otherwise."""
        answer = self._host.ask(Moment.MAIL, address, "", self.number)
        if answer is None or _positive(answer):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return await self._play(answer, "250 OK")

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        _server: Any,
        _dialogue: Any,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> Any:
        """Accept a recipient unless the script says otherwise."""
        answer = self._host.ask(Moment.RCPT, envelope.mail_from or "", address, self.number)
        if answer is None or _positive(answer):
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return await self._play(answer, "250 OK")

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _dialogue: Any, envelope: Envelope
    ) -> Any:
        """Hand a whole mail to the sink and say what it says."""
        return await self._play(await self._host.at_dot(self, envelope), MISSING)

    async def _answered(self, moment: Moment, recipient: str) -> bool:
        sender = (self.envelope.mail_from or "") if self.envelope else ""
        answer = self._host.ask(moment, sender, recipient, self.number)
        if answer is None:
            return False
        await self.push(await self._play(answer, ""))
        return True

    async def _play(self, answer: Answer | None, usual: Any) -> Any:
        """Return the line to push; never returns where the script wants no further word."""
        match answer:
            case None:
                return usual
            case Reply(then_close=False):
                return answer.raw
            case Reply():
                await self.push(answer.raw)
                self._hang_up()
            case Hangup():
                self._hang_up()
            case Silence():
                pass
        # The end of the connection cancels this.
        return await asyncio.get_running_loop().create_future()

    def _hang_up(self) -> None:
        if isinstance(self.transport, asyncio.BaseTransport):
            self.transport.close()

    def _check(
        self, _server: Any, _dialogue: Any, _envelope: Envelope, _how: str, given: Any
    ) -> AuthResult:
        known = self._credentials
        right = (
            known is not None
            and isinstance(given, LoginPassword)
            and (given.login, given.password) == (known[0].encode(), known[1].encode())
        )
        return AuthResult(success=right, handled=False)


def _positive(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.raw.startswith(b"2")
