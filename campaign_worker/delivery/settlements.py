"""What the owner of a claim writes at its end: a closed set of endings of a row. Pure values."""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from dataclasses import dataclass

from campaign_worker.delivery.model import Refusal


class FailReason(enum.Enum):
    """Why a row failed for good."""

    HARD_BOUNCE = "hard_bounce"
    REJECTED = "rejected"
    EXHAUSTED = "exhausted"
    RENDER_ERROR = "render_error"


@dataclass(frozen=True, slots=True)
class MarkSent:
    """Accepted with 250. `hard_bounced` are those of several recipients to suppress."""

    message_id: str
    reply: str
    hard_bounced: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkFailed:
    """No further attempt. `suppress` are normalized addresses that must not be mailed again."""

    reason: FailReason
    detail: str
    attempt_spent: bool
    suppress: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkRetry:
    """A transient failure: one attempt spent, due again after `seconds`."""

    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class MarkReleased:
    """Deferred or interrupted: no attempt spent, due again after `seconds`.

    `unknown`: its request may have been executed; it is kept, and repeated as it is.
    """

    detail: str
    seconds: float = 0.0
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class MarkInDoubt:
    """The answer to the final dot never came. `resend`: the policy schedules it again at once."""

    message_id: str
    detail: str
    resend: bool = False


Ending = MarkSent | MarkFailed | MarkRetry | MarkReleased | MarkInDoubt


@dataclass(frozen=True, slots=True)
class Settlement:
    """One row's ending, by the token that owns it.

    `withdraw`: rows whose suppressions are taken back, in the same transaction. `bounced`: of an
    ending that was written down without addresses, the fingerprints of those to suppress; the row
    knows whose they are.
    """

    id: int
    token: str
    ending: Ending
    withdraw: tuple[int, ...] = ()
    bounced: frozenset[str] = frozenset()


def fingerprint(token: str, address: str) -> str:
    """Name an address of a row without saying it; case and Unicode form make no difference.

    The token is in it, so that the same address has another name in each claim.
    """
    plain = unicodedata.normalize("NFC", address).lower()
    identity = f"{token} {plain}".encode("utf-8", "replace")
    return hashlib.sha256(identity).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """A settlement that was written down elsewhere; None: by a version that we do not know."""

    id: str
    settlement: Settlement | None


@dataclass(frozen=True, slots=True)
class NextStep:
    """A follow-up's row that a settle made; its job is added after the commit."""

    campaign_id: int
    recipient_id: int
    step: int
    due_in_seconds: float


@dataclass(frozen=True, slots=True)
class Settled:
    """The row says what was asked, now or from an earlier try whose reply was lost."""

    next_step: NextStep | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """The row belongs to another token or is final otherwise; nothing was written."""

    state: str


SettleAnswer = Settled | Superseded
