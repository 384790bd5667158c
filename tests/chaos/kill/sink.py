"""An SMTP server that knows which worker is how far with which mail, and can tell at once.

A worker is known by its EHLO name. A mail is "open" from the 354 that asks for it until the next
word on its connection: the worker sends that only after the settle of the mail before.
"""

from __future__ import annotations

import asyncio
import email.parser
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campaign_worker.embedded.smtp_script import Answer, Moment
from campaign_worker.embedded.smtp_server import ReceivedMail, SmtpSink
from campaign_worker.embedded.smtp_session import Session

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope

Hook = Callable[[str, str], None]
"""Called with a moment and the name of the worker that is there."""

AFTER_250 = "250"
_WRITING_SECONDS = 0.0005


@dataclass(slots=True)
class OpenMail:
    """A mail between its 354 and the next word on its connection.

    `message_id` is known once its content has come in. `before` are the Message-IDs that had been
    accepted for its recipient at its 354: so many steps lie behind it.
    """

    recipient: str
    before: frozenset[str]
    message_id: str | None = None


class WatchfulSink(SmtpSink):
    """A sink that keeps books on workers; `hook` hears MAIL, DATA, DOT and, once it is out, 250."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hook: Hook | None = None
        self.cut_off: list[OpenMail] = []
        """Mails that were open when their worker was killed."""
        self._open: dict[str, dict[int, OpenMail]] = defaultdict(dict)
        self._latest: dict[int, OpenMail] = {}
        self._accepted_for: dict[str, set[str]] = defaultdict(set)

    @property
    def received(self) -> list[ReceivedMail]:
        """What was accepted, in that order."""
        return self.mails

    async def settings_of(self, _worker: str) -> dict[str, str]:
        """Give the settings that lead a worker here."""
        return {"SMTP_URL": self.url}

    def note_kill(self, worker: str) -> None:
        """Remember what was open with a worker that has just been killed."""
        self.cut_off += self._open.pop(worker, {}).values()

    def ask(self, moment: Moment, sender: str, recipient: str, connection: int) -> Answer | None:
        """Note how far the mail is, then answer as the script says."""
        worker = self._worker(connection)
        match moment:
            case Moment.MAIL:
                self._open[worker].pop(connection, None)
                self._latest.pop(connection, None)
            case Moment.DATA:
                mail = OpenMail(recipient, frozenset(self._accepted_for[recipient]))
                self._open[worker][connection] = self._latest[connection] = mail
            case _:
                pass
        if self.hook is not None and moment in (Moment.MAIL, Moment.DATA, Moment.DOT):
            self.hook(moment.value, worker)
        return super().ask(moment, sender, recipient, connection)

    async def at_dot(self, session: Session, envelope: Envelope) -> Answer:
        """Note which mail it is; tell when the answer is on its way."""
        mail = self._latest.get(session.number)
        if mail is not None:
            # Also when its worker is dead by now: it is among those that were cut off.
            mail.message_id = _message_id(bytes(envelope.original_content or b""))
        answer = await super().at_dot(session, envelope)
        if self.hook is not None:
            # The reply is written when this has returned.
            loop = asyncio.get_running_loop()
            loop.call_later(_WRITING_SECONDS, self._tell, AFTER_250, session.ehlo_name)
        return answer

    def _keep(self, mail: ReceivedMail) -> None:
        super()._keep(mail)
        for recipient in mail.recipients:
            self._accepted_for[recipient].add(mail.message_id)

    def _tell(self, moment: str, worker: str) -> None:
        if self.hook is not None:
            self.hook(moment, worker)

    def _worker(self, connection: int) -> str:
        for session in self._sessions:
            if session.number == connection:
                return session.ehlo_name
        return ""


def _message_id(content: bytes) -> str:
    headers = email.parser.BytesHeaderParser().parsebytes(content)
    return str(headers["Message-ID"] or "").strip()
