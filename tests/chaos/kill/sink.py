"""An SMTP server that knows which worker is how far with which mail, and can tell at once.

A worker is known by its EHLO name. A mail is "open" from the 354 that asks for it until the next
word on its connection: the worker sends that only after the settle of the mail before.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campaign_worker.embedded.smtp_script import Answer, Moment
from campaign_worker.embedded.smtp_server import SmtpSink
from campaign_worker.embedded.smtp_session import Session

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope

Hook = Callable[[str, str], None]
"""Called with a moment and the EHLO name of the worker that is there."""

AFTER_250 = "250"
_WRITING_SECONDS = 0.0005


@dataclass(slots=True)
class OpenMail:
    """A mail between its 354 and the next word on its connection."""

    recipient: str
    dot: bool = False
    answered: bool = False


class WatchfulSink(SmtpSink):
    """A sink that keeps books on workers; `hook` hears MAIL, DATA, DOT and, once it is out, 250."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hook: Hook | None = None
        self.cut_off: list[OpenMail] = []
        """Mails that were open when their worker was killed."""
        self._open: dict[str, dict[int, OpenMail]] = defaultdict(dict)

    def note_kill(self, worker: str) -> None:
        """Remember what was open with a worker that has just been killed."""
        self.cut_off += self._open.pop(worker, {}).values()

    def open_with(self, worker: str) -> int:
        """How many mails are open with a worker."""
        return len(self._open.get(worker, {}))

    def ask(self, moment: Moment, sender: str, recipient: str, connection: int) -> Answer | None:
        """Note how far the mail is, then answer as the script says."""
        worker = self._worker(connection)
        mails = self._open[worker]
        match moment:
            case Moment.MAIL:
                mails.pop(connection, None)
            case Moment.DATA:
                mails[connection] = OpenMail(recipient)
            case Moment.DOT if connection in mails:
                mails[connection].dot = True
            case _:
                pass
        if self.hook is not None and moment in (Moment.MAIL, Moment.DATA, Moment.DOT):
            self.hook(moment.value, worker)
        return super().ask(moment, sender, recipient, connection)

    async def at_dot(self, session: Session, envelope: Envelope) -> Answer:
        """Note the answer; tell when it is on its way."""
        answer = await super().at_dot(session, envelope)
        mail = self._open[session.ehlo_name].get(session.number)
        if mail is not None:
            mail.answered = True
        if self.hook is not None:
            # The reply is written when this has returned.
            loop = asyncio.get_running_loop()
            loop.call_later(_WRITING_SECONDS, self._tell, AFTER_250, session.ehlo_name)
        return answer

    def _tell(self, moment: str, worker: str) -> None:
        if self.hook is not None:
            self.hook(moment, worker)

    def _worker(self, connection: int) -> str:
        for session in self._sessions:
            if session.number == connection:
                return session.ehlo_name
        return ""
