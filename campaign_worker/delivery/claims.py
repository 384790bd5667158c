"""What a claim answers: a closed set. The row decides; a job only asks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from campaign_worker.delivery.model import Template
from campaign_worker.delivery.replay import Replay
from campaign_worker.delivery.requests import InlineMail


class MessageState(enum.Enum):
    """States of a message's row (design: one recipient's mail)."""

    SCHEDULED = "scheduled"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Tracking:
    """What a campaign wants tracked; acts only where there is a tracker to lead to.

    `text`: clicks on URLs of the text part as well. `link_ids` are the rows of the links that the
    template itself spells out, by position; None for one whose row is not the version's own.
    """

    opens: bool
    clicks: bool
    text: bool
    link_ids: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class CampaignContent:
    """What a campaign's mail is made of for one recipient, as pinned by the claim.

    `headers` are the campaign's own; None takes away one that the worker would set.
    """

    template: Template
    recipient_email: str
    recipient_name: str | None
    recipient_data: dict[str, Any]
    campaign_id: int
    campaign_name: str
    recipient_id: int
    step: int
    mail_from: str | None
    reply_to: str | None
    headers: dict[str, str | None]
    previous_message_id: str | None
    tracking: Tracking


@dataclass(frozen=True, slots=True)
class InlineContent:
    """What a self-contained mail is made of; `suppressed` are normalized addresses to leave out."""

    mail: InlineMail
    campaign_id: int | None
    mail_from: str | None
    suppressed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Content that Postgres keeps and we cannot read, such as JSON that is nested too deeply."""

    problem: str


Content = CampaignContent | InlineContent | Unreadable


@dataclass(frozen=True, slots=True)
class Claimed:
    """The row is ours: state sending, our token, a lease.

    `attempts` are those spent before this one. `confirmed_at` is time.monotonic() from before the
    statement was sent, so the lease is at least as long as the owner believes. `date` is fixed by
    the row, so that a mail sent again is the same to the byte. `replay` is a request of an earlier
    claim that may have been executed.
    """

    id: int
    token: str
    attempts: int
    message_key: str
    created_at_epoch: float
    content: Content
    confirmed_at: float
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """The row is final, also when this claim's guard made it so: the job ends as the row says."""

    state: MessageState
    reason: str | None
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Busy:
    """Another token's lease is live, or another transaction holds the row, for about so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NotYet:
    """The row may go out later: not due, campaign paused, the step before it still open."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GoesAlone:
    """Owners of this row died: it is claimed only while its process has nothing else in hand."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The job names something that is not there; `field` is the payload's."""

    field: str
    problem: str


Claim = Claimed | Final | Busy | NotYet | GoesAlone | Missing
