"""What a job asks for: a campaign's mail to a recipient, or one self-contained mail."""

from __future__ import annotations

from dataclasses import dataclass

from campaign_worker.delivery.model import Attachment


@dataclass(frozen=True, slots=True)
class CampaignRequest:
    """Step `step` of a campaign for one recipient; step 0 is the first mail."""

    campaign_id: int
    recipient_id: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class InlineMail:
    """A mail that a job carries whole. Addresses are as written: `a@b` or `Name <a@b>`."""

    to: tuple[str, ...]
    subject: str
    html: str | None
    text: str | None
    sender: str | None
    reply_to: str | None
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    headers: dict[str, str]
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class InlineRequest:
    """One self-contained mail. `key` says which mail it is: the same key is the same mail."""

    key: str
    campaign_id: int | None
    mail: InlineMail


Request = CampaignRequest | InlineRequest


@dataclass(frozen=True, slots=True)
class JobRef:
    """Where a request came from, kept in the row so that its job can be found again.

    `attempts_made` is the job's own count: it changes when the job ends, not when it comes again.
    `timestamp_ms` is when it was added, by its own word: ids begin at 1 again in an emptied queue.
    """

    queue: str
    job_id: str
    attempts_made: int = 0
    timestamp_ms: int | None = None
