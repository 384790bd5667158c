"""One SMTP connection and the dialogue of one mail on it: MAIL, RCPT, DATA, the body, the reply.

Owns the phase of every failure. Never retries and never connects; a connection whose dialogue did
not come to its end in order says so by `reusable` and must be dropped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiosmtplib

from campaign_worker.delivery.model import Accepted, Envelope, Refusal
from campaign_worker.errors import AddressError, SmtpLost, SmtpPhase, SmtpRefused
from campaign_worker.mail.address import parse
from campaign_worker.mail.connect import abort
from campaign_worker.mail.reply import clean, enhanced_code, mildest
from shutdown import Deadline

BeforeDot = Callable[[], Awaitable[None]]

_LINE_END = re.compile(rb"\r\n|\r|\n")
_CLOSING = 421
_GO_AHEAD = 354


@dataclass(frozen=True, slots=True)
class Prepared:
    """A mail as it goes over the wire, checked before anything is written."""

    sender: bytes
    recipients: tuple[tuple[str, bytes], ...]
    smtputf8: bool
    body: bytes


def prepare(envelope: Envelope, content: bytes) -> Prepared:
    """Check the envelope and stuff the content.

    Raises errors.AddressError for an address that could end its path or line, or if there is none.
    """
    if not envelope.recipients:
        raise AddressError("an envelope needs a recipient")
    return Prepared(
        sender=b"FROM:" + _path(envelope.sender, smtputf8=envelope.smtputf8),
        recipients=tuple(
            (recipient, b"TO:" + _path(recipient, smtputf8=envelope.smtputf8))
            for recipient in envelope.recipients
        ),
        smtputf8=envelope.smtputf8,
        body=to_body(content),
    )


class Connection:
    """An open, authenticated connection. One mail at a time."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self._client = client
        self._in_dialogue = False
        self._needs_reset = False
        self.mails = 0
        """Mails begun on it; above 0 it is a reused connection that may have gone stale."""

    @property
    def reusable(self) -> bool:
        """Whether the last dialogue ended in order and nobody has closed the connection."""
        return not self._in_dialogue and self._client.is_connected

    def abort(self) -> None:
        """Drop it at once."""
        abort(self._client)

    async def quit(self, timeout_seconds: float) -> None:
        """Say QUIT and close; whatever happens, it is closed within the time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._client.quit()
        except (aiosmtplib.SMTPException, OSError):
            # It is closed in any case, and nothing hangs on its last word.
            pass
        finally:
            self.abort()

    async def begin(self, mail: Prepared, timeout_seconds: float) -> None:
        """Open a transaction: RSET if the last one is still open, then MAIL.

        Raises SmtpRefused and SmtpLost in phase MAIL. Nothing of the mail has gone out then.
        """
        options = self._mail_options(mail)
        deadline = Deadline.after(timeout_seconds)
        self._in_dialogue = True
        self.mails += 1
        if self._needs_reset:
            reply = await self._command(SmtpPhase.MAIL, deadline, b"RSET")
            if not _positive(reply):
                raise SmtpLost(SmtpPhase.MAIL, f"RSET was answered by {reply.code}")
            self._needs_reset = False
        reply = await self._command(SmtpPhase.MAIL, deadline, b"MAIL", mail.sender, *options)
        if not _positive(reply):
            raise self._refused(SmtpPhase.MAIL, reply)

    async def finish(
        self,
        mail: Prepared,
        before_dot: BeforeDot,
        timeout_seconds: float,
        reply_timeout_seconds: float,
    ) -> Accepted:
        """Name the recipients and send the content, after `begin`.

        `before_dot` is awaited after the 354 and before the first byte of the body: a server that
        would refuse has done so by then. Recipients and DATA share `timeout_seconds`; the body and
        its reply have `reply_timeout_seconds`: whoever hangs up earlier than the server answers
        does not know what became of the mail (RFC 5321, 4.5.3.2.6: 10 minutes).
        """
        deadline = Deadline.after(timeout_seconds)
        refusals = await self._recipients(mail, deadline)
        reply = await self._command(SmtpPhase.DATA, deadline, b"DATA")
        if reply.code != _GO_AHEAD:
            raise self._refused(SmtpPhase.DATA, reply)
        await before_dot()
        reply = await self._body(mail.body, Deadline.after(reply_timeout_seconds))
        if not _positive(reply):
            raise self._refused(SmtpPhase.BODY, reply)
        self._in_dialogue = False
        return Accepted(clean(reply.message), tuple(refusals))

    def _mail_options(self, mail: Prepared) -> list[bytes]:
        """Give the parameters of MAIL, or refuse what the server has said it cannot take."""
        options: list[bytes] = []
        size = len(mail.body)
        limit = self._client.esmtp_extensions.get("size")
        if limit is not None:
            options.append(b"SIZE=%d" % size)
            if limit.isdecimal() and 0 < int(limit[:20]) < size:
                text = f"the message has {size} bytes, the server takes {limit[:20]}"
                raise SmtpRefused(SmtpPhase.MAIL, 552, "5.3.4", text)
        if mail.smtputf8:
            if not self._client.supports_extension("smtputf8"):
                text = "the server does not offer SMTPUTF8, which an address of this mail needs"
                raise SmtpRefused(SmtpPhase.MAIL, 553, "5.6.7", text)
            options += [b"BODY=8BITMIME", b"SMTPUTF8"]
        return options

    async def _recipients(self, mail: Prepared, deadline: Deadline) -> list[Refusal]:
        refusals: list[Refusal] = []
        for recipient, path in mail.recipients:
            reply = await self._command(SmtpPhase.RCPT, deadline, b"RCPT", path)
            if not _positive(reply):
                refused = self._refused(SmtpPhase.RCPT, reply)
                if refused.code == _CLOSING:
                    raise refused
                self._in_dialogue = True
                one = Refusal(recipient, refused.code, refused.enhanced, refused.text)
                refusals.append(one)
        if len(refusals) == len(mail.recipients):
            self._in_dialogue = False
            one = mildest(refusals)
            raise SmtpRefused(SmtpPhase.RCPT, one.code, one.enhanced, one.text)
        return refusals

    async def _command(
        self, phase: SmtpPhase, deadline: Deadline, *words: bytes
    ) -> aiosmtplib.SMTPResponse:
        self._nothing_left_over(phase)
        try:
            async with deadline.limit():
                return _sane(await self._client.execute_command(*words), phase)
        except TimeoutError:
            raise SmtpLost(phase, "no answer in time") from None
        except aiosmtplib.SMTPResponseException as error:
            raise SmtpLost(phase, f"an answer that is not SMTP: {clean(error.message)}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise SmtpLost(phase, clean(str(error)) or type(error).__name__) from error

    async def _body(self, body: bytes, deadline: Deadline) -> aiosmtplib.SMTPResponse:
        protocol = self._client.protocol
        phase = SmtpPhase.DATA
        try:
            if protocol is None:
                raise SmtpLost(phase, "the connection was lost before the body")
            self._nothing_left_over(phase)
            # Raises without writing if the connection is closing; a write that returns has begun.
            protocol.write(body)
            phase = SmtpPhase.BODY
            async with deadline.limit():
                return _sane(await protocol.read_response(), phase)
        except TimeoutError:
            raise SmtpLost(phase, "no answer to the final dot in time") from None
        except aiosmtplib.SMTPResponseException as error:
            raise SmtpLost(phase, f"an answer that is not SMTP: {clean(error.message)}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise SmtpLost(phase, clean(str(error)) or type(error).__name__) from error

    def _nothing_left_over(self, phase: SmtpPhase) -> None:
        """Raise SmtpLost if the server has said more than it was asked.

        aiosmtplib keeps what came with the last reply, and would take it for the next one: a
        recipient would bounce for another's fault, an accepted mail be refused and sent again.
        """
        if getattr(self._client.protocol, "_buffer", b""):
            raise SmtpLost(phase, "an answer that nobody asked for")

    def _refused(self, phase: SmtpPhase, reply: aiosmtplib.SMTPResponse) -> SmtpRefused:
        """Note that the dialogue stands between two transactions, and give the error."""
        if reply.code < 400:  # noqa: PLR2004 - 3xx, or 2xx where 354 is due: out of step
            raise SmtpLost(phase, f"an answer out of order: {reply.code}")
        self._in_dialogue = False
        self._needs_reset = True
        if reply.code == _CLOSING:
            self.abort()
        text = clean(reply.message)
        return SmtpRefused(phase, reply.code, enhanced_code(text), text)


def to_body(content: bytes) -> bytes:
    """Give content as DATA carries it: CRLF only, dots stuffed, the final dot (RFC 5321, 4.5.2)."""
    line_feeds = content.count(b"\n")
    if not line_feeds == content.count(b"\r") == content.count(b"\r\n"):
        content = _LINE_END.sub(b"\r\n", content)
    if not content.endswith(b"\r\n") and content:
        content += b"\r\n"
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _positive(reply: aiosmtplib.SMTPResponse) -> bool:
    return 200 <= reply.code < 300  # noqa: PLR2004 - RFC 5321, 4.2.1


def _sane(reply: aiosmtplib.SMTPResponse, phase: SmtpPhase) -> aiosmtplib.SMTPResponse:
    if not 200 <= reply.code < 600:  # noqa: PLR2004 - RFC 5321, 4.2
        raise SmtpLost(phase, f"an answer with the code {reply.code}")
    return reply


def _path(address: str, *, smtputf8: bool) -> bytes:
    """Give `<a@b>`, or `<>` for the null sender. Raises errors.AddressError."""
    if not address:
        return b"<>"
    parsed = parse(address)
    if parsed.needs_smtputf8 and not smtputf8:
        raise AddressError("the part before '@' is not ASCII, and the envelope is not SMTPUTF8")
    return f"<{parsed.envelope}>".encode()
