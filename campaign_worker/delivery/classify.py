"""What SMTP said, as a verdict: codes and types in, one of a closed set out. Pure.

Reads no text but the server's hint about when to come back. docs/smtp-classification.md is the
same table for people; a test compares the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from campaign_worker.errors import SmtpLost, SmtpPhase, SmtpRefused, TransportDown

MAX_HINT_SECONDS = 6 * 3600

# RFC 3463: mailbox, system or syntax of the recipient; disabled mailbox. X.1.10 is RFC 7505.
RECIPIENTS_FAULT = frozenset({"1.1", "1.2", "1.3", "1.6", "1.10", "2.1"})
RECIPIENTS_FAULT_AT_RCPT = frozenset({550, 551, 553})
OURS = frozenset({530, 535})
TOO_BIG = frozenset({"2.3", "3.4"})


@dataclass(frozen=True, slots=True)
class HardBounce:
    """The recipient's fault, for good: the row fails and the address is suppressed."""

    detail: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Permanent for this mail, but no fault of the address: the row fails, nobody is suppressed."""

    detail: str


@dataclass(frozen=True, slots=True)
class Transient:
    """May go well later: an attempt is spent. `hint_seconds` is the server's own wish."""

    detail: str
    hint_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too much at once: later, and no attempt is spent. `hint_seconds` is the server's own wish."""

    detail: str
    hint_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TransportRefuses:
    """The server refuses us as a client or sender: the transport pauses, nobody is suppressed."""

    detail: str
    phase: SmtpPhase


@dataclass(frozen=True, slots=True)
class SenderRefused:
    """The server will not have the sender: its mails wait, and those of other senders do not."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The connection was lost after the final dot had begun: sent or not, nobody can tell."""

    detail: str


RefusalVerdict: TypeAlias = (
    HardBounce | Rejected | Transient | Throttled | TransportRefuses | SenderRefused
)
Verdict: TypeAlias = RefusalVerdict | Unknown


def classify(ending: SmtpRefused | SmtpLost | TransportDown) -> Verdict:
    """Judge how a send ended that was not accepted (design: enhanced code before phase)."""
    match ending:
        case SmtpRefused():
            return refused_in(ending.phase, ending.code, ending.enhanced, ending.text)
        case SmtpLost(phase=SmtpPhase.BODY):
            return Unknown(str(ending))
        case SmtpLost():
            return Transient(str(ending))
        case TransportDown():
            return TransportRefuses(str(ending), ending.phase)


def refused_in(phase: SmtpPhase, code: int, enhanced: str | None, text: str) -> RefusalVerdict:
    """Judge a refusal; `enhanced` counts only if its class is that of `code` (RFC 3463, 2)."""
    detail = f"{phase.value}: {code} {text}"
    matching = enhanced is not None and enhanced[:2] == f"{code // 100}."
    kind = enhanced[2:] if enhanced is not None and matching else None
    if 400 <= code < 500:  # noqa: PLR2004 - the classes of RFC 5321, 4.2.1
        if is_throttle(code, kind):
            return Throttled(detail, hint_seconds(text))
        return Transient(detail, hint_seconds(text))
    return _permanent(phase, code, kind, detail, text)


def is_throttle(code: int, kind: str | None) -> bool:
    """Whether a 4xx means "too much at once"; `kind` is the enhanced code without its class.

    454 without an enhanced code is what Amazon SES says when the sending rate is exceeded.
    """
    match code:
        case 421:
            return True
        case 452:
            return kind is not None and kind.startswith("3.")
        case 454:
            return kind is None or kind.startswith("7.")
        case _:
            return False


def _permanent(
    phase: SmtpPhase, code: int, kind: str | None, detail: str, text: str
) -> RefusalVerdict:
    if kind is None:
        return _permanent_by_phase(phase, code, detail, text)
    at_mail = phase is SmtpPhase.MAIL
    if kind in RECIPIENTS_FAULT and not at_mail:
        return HardBounce(detail)
    if kind.startswith("7.") or kind == "1.8" or code in OURS:
        return TransportRefuses(detail, phase)
    # 5.2.2 is a full mailbox; 552 with 5.2.3 or 5.3.4 is a mail too big, which stays too big.
    if kind == "2.2" or (code == 552 and kind not in TOO_BIG):  # noqa: PLR2004
        return Transient(detail, hint_seconds(text))
    # By then the server knows of a mail its sender, its size, and that it needs SMTPUTF8 (5.6.7).
    if at_mail and kind not in TOO_BIG and not kind.startswith("6."):
        return SenderRefused(detail)
    return Rejected(detail)


def _permanent_by_phase(phase: SmtpPhase, code: int, detail: str, text: str) -> RefusalVerdict:
    if code in OURS:
        return TransportRefuses(detail, phase)
    if code == 552:  # noqa: PLR2004 - storage exceeded (RFC 5321, 4.2.3)
        return Transient(detail, hint_seconds(text))
    if phase is SmtpPhase.RCPT and code in RECIPIENTS_FAULT_AT_RCPT:
        return HardBounce(detail)
    return SenderRefused(detail) if phase is SmtpPhase.MAIL else Rejected(detail)


_CLOCK = re.compile(r"\bin (\d{1,2}):(\d{2}):(\d{2})\b")
_SPAN = re.compile(
    r"\b(?:in|after|for|wait|within) (?:at least |about )?(\d{1,6}) ?(s|m|h)"
    r"(?:|ecs?|econds?|ins?|inutes?|rs?|ours?)\b"
)


def hint_seconds(text: str) -> float | None:
    """Read "try again in 300 seconds" and the like from a reply; at most six hours."""
    words = " ".join(text.lower().split())
    clock = _CLOCK.search(words)
    if clock is not None:
        hours, minutes, seconds = map(int, clock.groups())
        return float(min(hours * 3600 + minutes * 60 + seconds, MAX_HINT_SECONDS))
    span = _SPAN.search(words)
    if span is None:
        return None
    return float(min(int(span[1]) * {"s": 1, "m": 60, "h": 3600}[span[2]], MAX_HINT_SECONDS))
