"""Resend's webhooks: signed by Svix, one event each (https://resend.com/docs/webhooks/introduction).

Bounces have the types of SES, by which Resend sends (/docs/dashboard/emails/email-bounces).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from campaign_worker.settings import Secret
from campaign_worker.tracking.webhooks import fields
from campaign_worker.tracking.webhooks.feedback import (
    MESSAGE_AT_FAULT,
    OUR_MARK,
    Complaint,
    Feedback,
    HardBounce,
    Headers,
    Ignored,
    Provider,
    SoftBounce,
)
from campaign_worker.tracking.webhooks.svix import SvixVerifier

_SOFT: Final = frozenset({"Transient", "Temporary", "Undetermined"})


class ResendSource:
    """Fulfils feedback.Source. `now` gives Unix time in seconds."""

    def __init__(self, secrets: Sequence[Secret], *, now: Callable[[], float] = time.time) -> None:
        self._verifier = SvixVerifier(secrets, now=now)

    async def read(self, headers: Headers, body: bytes) -> Sequence[Feedback]:
        """Authenticate and read one event."""
        event_id = self._verifier.verify(headers, body)
        return (parse(event_id, fields.read_object(body)),)


def parse(event_id: str, event: Mapping[str, Any]) -> Feedback:
    """Read an authentic event."""
    kind = fields.text(event.get("type"), fields.MAX_ID)
    data = fields.mapping(event.get("data"))
    bounce = fields.mapping(data.get("bounce"))
    made = {"email.bounced": _bounce_class(bounce), "email.complained": Complaint}.get(kind)
    if made is None:
        return Ignored(kind)
    to = fields.addresses(fields.listing(data.get("to")))
    words = (fields.text(bounce.get(name)) for name in ("type", "subType", "message"))
    return made(
        provider=Provider.RESEND,
        event_id=event_id,
        # It does not say which of several it was.
        addresses=to if len(to) == 1 else (),
        message_id=_ours(fields.message_id(data.get("message_id"))),
        provider_id=fields.optional_id(data.get("email_id")),
        occurred_at=fields.moment(event.get("created_at")),
        detail=" ".join(word for word in words if word)[: fields.MAX_DETAIL],
    )


def _bounce_class(bounce: Mapping[str, Any]) -> type[HardBounce | SoftBounce]:
    # "Triggered whenever the recipient's mail server permanently rejected the email": what says
    # nothing else is one.
    sort, sub = fields.text(bounce.get("type")), fields.text(bounce.get("subType"))
    soft = sort in _SOFT or sub in MESSAGE_AT_FAULT
    return SoftBounce if soft else HardBounce


def _ours(message_id: str | None) -> str | None:
    """Leave out the Message-ID that Resend's own server writes over ours."""
    return message_id if message_id is not None and OUR_MARK in message_id else None
