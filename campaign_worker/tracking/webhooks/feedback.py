"""What providers report, in one closed set of values, and where it goes. Pure values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

OUR_MARK: Final = ".campaign-worker@"
"""What every Message-ID of ours has in it."""

MESSAGE_AT_FAULT: Final = frozenset(
    {"MessageRejected", "MessageTooLarge", "ContentRejected", "AttachmentRejected"}
)
"""Kinds of bounces (SES' words) that say nothing of the address: another mail may arrive."""


class Provider(enum.StrEnum):
    """Whose webhook it is: the name in the route, and feedback_events.provider."""

    RESEND = "resend"
    SES = "ses"
    POSTMARK = "postmark"


@dataclass(frozen=True, slots=True)
class Report:
    """One report about one mail.

    `event_id` is the same whenever the provider delivers the report again. `message_id` is the
    mail's Message-ID with its brackets, `provider_id` the provider's own name for the mail; None
    where the report does not say. `addresses` are those that the report is about, as the provider
    writes them, at most 50; none where it cannot be told which of several it was. `occurred_at` has
    a time zone. All texts are clean and bounded.
    """

    provider: Provider
    event_id: str
    addresses: tuple[str, ...]
    message_id: str | None
    provider_id: str | None
    occurred_at: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class HardBounce(Report):
    """The address takes no mail, now or later: nothing more goes there."""


@dataclass(frozen=True, slots=True)
class SoftBounce(Report):
    """The mail did not arrive, the next one may: recorded only."""


@dataclass(frozen=True, slots=True)
class Complaint(Report):
    """The recipient called the mail spam: nothing more goes there."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing that anybody here acts on, such as a delivery; `what` is the provider's word."""

    what: str


Feedback = HardBounce | SoftBounce | Complaint | Ignored
Acted = HardBounce | SoftBounce | Complaint


class Recorded(enum.Enum):
    """What became of a report; values are labels of the metric."""

    APPLIED = "applied"
    KNOWN = "known"
    """It was delivered before: nothing changed."""


class FeedbackStore(Protocol):
    """Where reports belong."""

    async def record(self, report: Acted) -> Recorded:
        """Commit a report and all that follows from it, once.

        Raises errors.DatabaseAway; errors.RowRefused for a report that Postgres does not take.
        """
        ...


class Source(Protocol):
    """One provider's way to prove and to say things."""

    async def read(self, headers: Headers, body: bytes) -> Sequence[Feedback]:
        """Authenticate a webhook and read it.

        Raises errors.WebhookForged, errors.WebhookMalformed, errors.ProviderAway.
        """
        ...


class Headers(Protocol):
    """A request's headers; names in any case."""

    def get(self, name: str, default: str, /) -> str:
        """Return the first header of that name."""
        ...
