"""The jobs of campaign mails: names, payloads and ids, the same wherever a job is added.

Ids are deterministic, so that adding twice is adding once; BullMQ wants no colon in them and not
only digits.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from campaign_worker.delivery.payload import FOLLOW_UP, SEND_EMAIL
from campaign_worker.delivery.requests import InlineMail

DEFAULT_OPTIONS: dict[str, Any] = {
    "attempts": 3,
    "backoff": {"type": "exponential", "delay": 1000},
    "removeOnComplete": {"age": 86_400, "count": 10_000},
    "removeOnFail": False,
}
"""Options of jobs that we add without an example; completed ones are kept for a day."""

_INHERITED = ("attempts", "backoff", "priority", "lifo", "removeOnComplete", "removeOnFail")


@dataclass(frozen=True, slots=True)
class MailJob:
    """One job to add. `delay_seconds` from now."""

    id: str
    name: str
    data: dict[str, Any]
    delay_seconds: float = 0.0
    options: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_OPTIONS))


def mail_job_id(campaign_id: int, recipient_id: int, step: int) -> str:
    """Give the id of the job of one step for one recipient."""
    return f"mail-{campaign_id}-{recipient_id}-{step}"


def inline_job_id(row_id: int) -> str:
    """Give the id of a self-contained mail's job, where it is not the app's own."""
    return f"mail-row-{row_id}"


def mail_job(
    campaign_id: int,
    recipient_id: int,
    step: int,
    *,
    delay_seconds: float = 0.0,
    like: dict[str, Any] | None = None,
) -> MailJob:
    """Describe the job of one step for one recipient; `like` are the options of the step before."""
    data: dict[str, Any] = {"campaignId": campaign_id, "recipientId": recipient_id}
    if step > 0:
        data["step"] = step
    options = dict(DEFAULT_OPTIONS)
    if like is not None:
        options = {name: like[name] for name in _INHERITED if name in like}
    return MailJob(
        id=mail_job_id(campaign_id, recipient_id, step),
        name=FOLLOW_UP if step > 0 else SEND_EMAIL,
        data=data,
        delay_seconds=max(delay_seconds, 0.0),
        options=options,
    )


def inline_job(row_id: int, key: str, campaign_id: int | None, mail: InlineMail) -> MailJob:
    """Describe the job of a self-contained mail anew, from what its row kept."""
    data: dict[str, Any] = {
        "idempotencyKey": key,
        "campaignId": campaign_id,
        "from": mail.sender,
        "replyTo": mail.reply_to,
        "to": list(mail.to),
        "cc": list(mail.cc),
        "bcc": list(mail.bcc),
        "subject": mail.subject,
        "html": mail.html,
        "text": mail.text,
        "headers": mail.headers,
        "attachments": [
            {
                "filename": one.filename,
                "content": base64.b64encode(one.content).decode("ascii"),
                "encoding": "base64",
                "contentType": one.content_type,
            }
            for one in mail.attachments
        ],
    }
    return MailJob(id=inline_job_id(row_id), name=SEND_EMAIL, data=data)
