"""An SMTP server in this process that keeps what it accepts, in memory and in a file.

A mail is kept before its 250 goes out, and also when the client has gone meanwhile, as real
servers do.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import email.parser
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from campaign_worker.embedded.server import LOOPBACK
from campaign_worker.embedded.smtp_script import (
    Answer,
    Hangup,
    Moment,
    Question,
    Reply,
    Script,
    Silence,
    as_answer,
)
from campaign_worker.embedded.smtp_session import Session

if TYPE_CHECKING:
    import ssl

    from aiosmtpd.smtp import Envelope

SIZE_LIMIT = 32 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedMail:
    """An accepted mail. `received_ms` is epoch time, `connection` counts from 1."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    received_ms: int
    size: int
    connection: int
    ehlo_name: str
    smtputf8: bool
    content: bytes = dataclasses.field(default=b"", repr=False)

    def to_json(self, *, content: bool = False) -> str:
        """Return one line, with the content or without; its bytes are written as Latin-1."""
        record = dataclasses.asdict(self)
        del record["content"]
        if content:
            record["content"] = self.content.decode("latin-1")
        return json.dumps(record)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what to_json wrote; the content is empty where it was left out."""
        record: dict[str, Any] = json.loads(line)
        content = str(record.pop("content", "")).encode("latin-1")
        return cls(**record | {"recipients": tuple(record["recipients"]), "content": content})


class SmtpSink:
    """An SMTP server on loopback; `async with SmtpSink(...) as sink`.

    `script` answers in its place (smtp_script), `latency_ms` passes between the final dot and its
    reply. `starttls`: must be used before MAIL; `tls`: TLS from the first byte. `credentials`: user
    and password that must be given. `store`: a file that gets one JSON line a mail; `contents`: one
    that gets the same lines with contents, each before the other's. `keep_content` False saves
    memory in long runs.
    """

    def __init__(  # noqa: PLR0913 - the options of a server, passed by name
        self,
        *,
        port: int = 0,
        script: Script | None = None,
        latency_ms: float = 0,
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
        credentials: tuple[str, str] | None = None,
        smtputf8: bool = True,
        size_limit: int = SIZE_LIMIT,
        store: Path | None = None,
        contents: Path | None = None,
        keep_content: bool = True,
    ) -> None:
        self.port = port
        self.script = script
        self.latency_ms = latency_ms
        self.mails: list[ReceivedMail] = []
        self.connections = 0
        self.accepted: collections.Counter[str] = collections.Counter()
        self._starttls = starttls
        self._tls = tls
        self._credentials = credentials
        self._smtputf8 = smtputf8
        self._size_limit = size_limit
        self._store = store
        self._contents = contents
        self._keep_content = keep_content
        self._gate = asyncio.Event()
        self._gate.set()
        self._at_dot = 0
        self._changed = asyncio.Condition()
        self._tries: collections.Counter[tuple[Moment, str]] = collections.Counter()
        self._sessions: set[Session] = set()
        self._arrivals: set[asyncio.Task[Answer]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """smtp://, smtp+starttls:// or smtps:// URL with user and password."""
        scheme = "smtps" if self._tls else "smtp+starttls" if self._starttls else "smtp"
        user = ":".join(quote(part, safe="") for part in self._credentials or ())
        return f"{scheme}://{user}{'@' if user else ''}{LOOPBACK}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen; on the same port when it was started before."""
        self._listener = await asyncio.get_running_loop().create_server(
            self._session, LOOPBACK, self.port, ssl=self._tls
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection; what waits at its dot is not accepted."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        for arrival in self._arrivals:
            arrival.cancel()
        await asyncio.gather(*self._arrivals, return_exceptions=True)
        await self.drop_connections()
        await listener.wait_closed()

    async def drop_connections(self) -> None:
        """Cut every connection without a word; new ones are welcome."""
        for session in tuple(self._sessions):
            await session.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    def hold(self) -> None:
        """Let no final dot be answered until release()."""
        self._gate.clear()

    def release(self) -> None:
        """Answer the dots that wait, and all later ones."""
        self._gate.set()

    async def wait_at_dot(self, count: int, *, timeout_seconds: float = 10.0) -> None:
        """Wait until `count` mails or more wait for the reply to their dot; TimeoutError."""
        async with asyncio.timeout(timeout_seconds), self._changed:
            await self._changed.wait_for(lambda: self._at_dot >= count)

    async def wait_mails(self, count: int, *, timeout_seconds: float = 10.0) -> None:
        """Wait until `count` mails or more are accepted; TimeoutError."""
        async with asyncio.timeout(timeout_seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.mails) >= count)

    def connected(self, session: Session) -> int:
        """Count a connection (called by the session)."""
        self._sessions.add(session)
        self.connections += 1
        return self.connections

    def disconnected(self, session: Session) -> None:
        """Forget a connection (called by the session)."""
        self._sessions.discard(session)

    def ask(self, moment: Moment, sender: str, recipient: str, connection: int) -> Answer | None:
        """Ask the script (called by the session)."""
        self._tries[moment, recipient] += 1
        if self.script is None:
            return None
        attempt = self._tries[moment, recipient]
        return as_answer(self.script(Question(moment, sender, recipient, attempt, connection)))

    async def at_dot(self, session: Session, envelope: Envelope) -> Answer:
        """Take a mail that has come in whole (called by the session)."""
        # A task of its own: a client that leaves now does not take the mail back.
        arrival = asyncio.create_task(self._arrive(session.number, session.ehlo_name, envelope))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)
        return await asyncio.shield(arrival)

    async def _arrive(self, connection: int, ehlo_name: str, envelope: Envelope) -> Answer:
        content = bytes(envelope.original_content or b"")
        sender, recipients = envelope.mail_from or "", tuple(envelope.rcpt_tos)
        answer = self.ask(Moment.DOT, sender, recipients[0], connection) or Reply("250 2.0.0 kept")
        await self._count_at_dot(1)
        try:
            await self._gate.wait()
            await asyncio.sleep(self.latency_ms / 1000)
            if _accepts(answer):
                self._keep(
                    ReceivedMail(
                        message_id=_message_id(content),
                        sender=sender,
                        recipients=recipients,
                        received_ms=time.time_ns() // 1_000_000,
                        size=len(content),
                        connection=connection,
                        ehlo_name=ehlo_name,
                        smtputf8=bool(envelope.smtp_utf8),
                        content=content,
                    )
                )
        finally:
            await self._count_at_dot(-1)
        return answer

    def _keep(self, mail: ReceivedMail) -> None:
        if self._contents is not None:
            with self._contents.open("a") as file:
                file.write(f"{mail.to_json(content=True)}\n")
        if self._store is not None:
            with self._store.open("a") as file:
                file.write(f"{mail.to_json()}\n")
        self.mails.append(mail if self._keep_content else dataclasses.replace(mail, content=b""))
        self.accepted.update(mail.recipients)

    async def _count_at_dot(self, change: int) -> None:
        self._at_dot += change
        async with self._changed:
            self._changed.notify_all()

    def _session(self) -> Session:
        return Session(
            self,
            hostname="sink.test",
            smtputf8=self._smtputf8,
            size_limit=self._size_limit,
            starttls=self._starttls,
            credentials=self._credentials,
        )


def _accepts(answer: Answer) -> bool:
    match answer:
        case Reply():
            return answer.raw.startswith(b"2")
        case Hangup() | Silence():
            return answer.accept


def _message_id(content: bytes) -> str:
    headers = email.parser.BytesHeaderParser().parsebytes(content)
    return str(headers["Message-ID"] or "").strip()
