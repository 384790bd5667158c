"""What SES says in an SNS message: bounces and complaints, each about one mail's recipients.

https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html and, where events are published
by a configuration set, event-publishing-retrieving-sns-contents.html there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from campaign_worker.tracking.webhooks import fields
from campaign_worker.tracking.webhooks.feedback import (
    MESSAGE_AT_FAULT,
    Complaint,
    Feedback,
    HardBounce,
    Ignored,
    Provider,
    SoftBounce,
)

# Feedback types of ARF (RFC 5965, 7.3; RFC 6591) that no recipient has complained by.
_NO_COMPLAINTS: Final = frozenset({"not-spam", "auth-failure"})


def parse(sns_id: str, notification: Mapping[str, Any]) -> Feedback:
    """Read an authentic notification; `sns_id` names it where SES does not."""
    kind = fields.text(
        notification.get("notificationType") or notification.get("eventType"), fields.MAX_ID
    )
    mail = fields.mapping(notification.get("mail"))
    if kind == "Bounce":
        return _bounce(sns_id, mail, fields.mapping(notification.get("bounce")))
    if kind == "Complaint":
        return _complaint(sns_id, mail, fields.mapping(notification.get("complaint")))
    return Ignored(kind)


def _bounce(sns_id: str, mail: Mapping[str, Any], bounce: Mapping[str, Any]) -> Feedback:
    recipients = fields.listing(bounce.get("bouncedRecipients"))
    diagnosis = next(
        (
            each["diagnosticCode"]
            for each in map(fields.mapping, recipients)
            if "diagnosticCode" in each
        ),
        "",
    )
    sort, sub = fields.text(bounce.get("bounceType")), fields.text(bounce.get("bounceSubType"))
    made = HardBounce if sort == "Permanent" and sub not in MESSAGE_AT_FAULT else SoftBounce
    return made(
        provider=Provider.SES,
        event_id=fields.optional_id(bounce.get("feedbackId")) or fields.event_id(sns_id),
        addresses=_addresses(recipients),
        message_id=_message_id(mail),
        provider_id=fields.optional_id(mail.get("messageId")),
        occurred_at=fields.moment(bounce.get("timestamp")),
        detail=_detail((sort, sub, diagnosis)),
    )


def _complaint(sns_id: str, mail: Mapping[str, Any], complaint: Mapping[str, Any]) -> Feedback:
    sort = fields.text(complaint.get("complaintFeedbackType"), fields.MAX_ID)
    if sort in _NO_COMPLAINTS:
        return Ignored(f"Complaint {sort}")
    addresses = _addresses(fields.listing(complaint.get("complainedRecipients")))
    return Complaint(
        provider=Provider.SES,
        event_id=fields.optional_id(complaint.get("feedbackId")) or fields.event_id(sns_id),
        # Who complained may be hidden: SES then lists all of the mail's recipients there.
        addresses=addresses if len(addresses) == 1 else (),
        message_id=_message_id(mail),
        provider_id=fields.optional_id(mail.get("messageId")),
        occurred_at=fields.moment(complaint.get("timestamp")),
        detail=_detail((sort, complaint.get("complaintSubType"), complaint.get("userAgent"))),
    )


def _addresses(recipients: Sequence[Any]) -> tuple[str, ...]:
    return fields.addresses([fields.mapping(each).get("emailAddress") for each in recipients])


def _message_id(mail: Mapping[str, Any]) -> str | None:
    """Return the Message-ID that we wrote; SES sends the mail under another one."""
    for header in map(fields.mapping, fields.listing(mail.get("headers"))):
        name = header.get("name")
        if isinstance(name, str) and name.lower() == "message-id":
            return fields.message_id(header.get("value"))
    return None


def _detail(words: Sequence[object]) -> str:
    return " ".join(word for word in map(fields.text, words) if word)[: fields.MAX_DETAIL]
