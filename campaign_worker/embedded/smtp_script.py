"""What an SMTP sink answers where it should not simply say yes, and where it falls silent.

A script maps a moment of the dialogue to an answer. Values only; the protocol is in smtp_sink.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping


class Moment(enum.Enum):
    """Where in the dialogue an answer is due (RFC 5321, section 3.3)."""

    GREETING = "GREETING"
    EHLO = "EHLO"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "DOT"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """An answer is due.

    `recipient` is the address of a RCPT, at DATA and DOT the first one accepted, before that "".
    `attempt` counts from 1 how often this moment came for this recipient, over all connections.
    `connection` counts connections from 1.
    """

    moment: Moment
    sender: str
    recipient: str
    attempt: int
    connection: int


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """Answer with this line instead of the usual one; bytes go out as they are, without CRLF.

    At DOT a reply that begins with 2 accepts the mail. `then_close`: close after it (as with 421).
    """

    line: str | bytes
    then_close: bool = False

    @property
    def raw(self) -> bytes:
        """The line as it goes out, without CRLF."""
        return self.line if isinstance(self.line, bytes) else self.line.encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Hangup:
    """Close the connection without an answer. `accept`: at DOT the mail is kept all the same."""

    accept: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Silence:
    """Never answer; the connection stays open. `accept`: at DOT the mail is kept all the same."""

    accept: bool = False


Answer = Reply | Hangup | Silence
Script = Callable[[Question], Answer | str | bytes | None]


def by_recipient(
    moment: Moment, answers: Mapping[str, Answer | str | bytes], *, tries: int | None = None
) -> Script:
    """Answer so for these recipients at this moment, on the first `tries` tries (None: always)."""

    def script(question: Question) -> Answer | str | bytes | None:
        late = tries is not None and question.attempt > tries
        if question.moment is not moment or late:
            return None
        return answers.get(question.recipient)

    return script


def first_of(*scripts: Script) -> Script:
    """Ask several scripts in turn; the first that has an answer gives it."""

    def script(question: Question) -> Answer | str | bytes | None:
        for one in scripts:
            answer = one(question)
            if answer is not None:
                return answer
        return None

    return script


def as_answer(value: Answer | str | bytes | None) -> Answer | None:
    """Let a script return a plain line where it means a Reply."""
    return Reply(value) if isinstance(value, str | bytes) else value
