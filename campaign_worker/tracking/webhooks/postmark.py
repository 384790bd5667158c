"""Postmark's webhooks: unsigned, so a secret in their URL or headers has to prove them.

https://postmarkapp.com/developer/webhooks/webhooks-overview; types of bounces:
https://postmarkapp.com/developer/api/bounce-api#bounce-types
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final

from campaign_worker.errors import WebhookForged
from campaign_worker.settings import Secret
from campaign_worker.tracking.webhooks import fields
from campaign_worker.tracking.webhooks.feedback import (
    Complaint,
    Feedback,
    HardBounce,
    Headers,
    Ignored,
    Provider,
    SoftBounce,
)

SECRET_HEADER: Final = "X-Webhook-Secret"  # noqa: S105 - a name
_MAX_HEADER: Final = 4096
_HARD: Final = frozenset({"HardBounce", "BadEmailAddress"})
# Answers to mails that arrived, and tests: no bounces, although they come as such.
_NO_BOUNCES: Final = frozenset(
    {"Unsubscribe", "Subscribe", "AutoResponder", "AddressChange", "OpenRelayTest", "InboundError"}
)


class PostmarkSource:
    """Fulfils feedback.Source. The secret is the password of basic auth, or a header's value."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret.get_secret_value().encode()

    async def read(self, headers: Headers, body: bytes) -> Sequence[Feedback]:
        """Authenticate and read one record."""
        header = headers.get(SECRET_HEADER, "")[:_MAX_HEADER].encode("utf-8", "replace")
        password = _password(headers.get("Authorization", "")[:_MAX_HEADER])
        # Both are compared, whichever fits.
        fits = (
            hmac.compare_digest(header, self._secret),
            hmac.compare_digest(password, self._secret),
        )
        if not any(fits):
            raise WebhookForged("it does not carry our secret")
        return (parse(fields.read_object(body)),)


def parse(record: Mapping[str, Any]) -> Feedback:
    """Read an authentic record."""
    kind = fields.text(record.get("RecordType"), fields.MAX_ID)
    sort = fields.text(record.get("Type"), fields.MAX_ID)
    made = _class_of(kind, sort, inactive=record.get("Inactive") is True)
    if made is None:
        return Ignored(f"{kind} {sort}".strip())
    words = (sort, fields.text(record.get("Description")), fields.text(record.get("Details")))
    return made(
        provider=Provider.POSTMARK,
        event_id=fields.event_id(record.get("ID")),
        addresses=fields.addresses([record.get("Email")]),
        message_id=None,
        provider_id=fields.optional_id(record.get("MessageID")),
        occurred_at=fields.moment(record.get("BouncedAt")),
        detail=" ".join(word for word in words if word)[: fields.MAX_DETAIL],
    )


def _class_of(
    kind: str, sort: str, *, inactive: bool
) -> type[HardBounce | SoftBounce | Complaint] | None:
    if "SpamComplaint" in (kind, sort):
        return Complaint
    if kind != "Bounce" or sort in _NO_BOUNCES:
        return None
    # Inactive: Postmark itself sends nothing more to this address because of this bounce.
    return HardBounce if sort in _HARD or inactive else SoftBounce


def _password(authorization: str) -> bytes:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
