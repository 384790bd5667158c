"""Messages of Amazon SNS over HTTPS: their shape, what of them is signed, which URLs may be asked.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html and
sns-verify-signature-of-message.html there. Asks nobody anything.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from campaign_worker.errors import WebhookForged, WebhookMalformed
from campaign_worker.tracking.webhooks import fields

_HOST: Final = r"https://sns\.[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
# Nothing else at these hosts is a certificate: some answers of the API quote what a caller sent.
_CERTIFICATE_URL = re.compile(_HOST + r"/SimpleNotificationService-[0-9a-zA-Z]{1,64}\.pem")
_SUBSCRIBE_URL = re.compile(_HOST + r"/\?[!-~]{1,2048}")
_MAX_SIGNATURE: Final = 2048


class SnsType(enum.StrEnum):
    """What a message is for."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


class SignatureVersion(enum.StrEnum):
    """How it is signed: RSA, PKCS #1 v1.5, over SHA-1 or SHA-256."""

    SHA1 = "1"
    SHA256 = "2"


_CONFIRMATION: Final = (
    *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
)
_SIGNED: Final = {
    SnsType.NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SnsType.SUBSCRIPTION: _CONFIRMATION,
    SnsType.UNSUBSCRIPTION: _CONFIRMATION,
}
_OPTIONAL: Final = "Subject"


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """A message that is not yet proved. `signed` are the bytes that `signature` is over."""

    type: SnsType
    id: str
    topic: str
    text: str
    subscribe_url: str
    version: SignatureVersion
    signature: bytes
    signed: bytes
    certificate_url: str


def read_message(body: bytes) -> SnsMessage:
    """Read a message. Raises errors.WebhookMalformed; errors.WebhookForged for a URL not of SNS."""
    fields_given = fields.read_object(body)
    try:
        kind = SnsType(_text(fields_given, "Type"))
        version = SignatureVersion(_text(fields_given, "SignatureVersion"))
        signature = base64.b64decode(
            _text(fields_given, "Signature")[:_MAX_SIGNATURE], validate=True
        )
        signed = _signed(kind, fields_given)
    except (binascii.Error, ValueError):
        raise WebhookMalformed("it is not signed in a way that SNS documents") from None
    certificate_url = _text(fields_given, "SigningCertURL")
    if not _CERTIFICATE_URL.fullmatch(certificate_url):
        raise WebhookForged("its certificate is not at SNS")
    return SnsMessage(
        type=kind,
        id=fields.event_id(fields_given.get("MessageId")),
        topic=_text(fields_given, "TopicArn"),
        text=_text(fields_given, "Message"),
        subscribe_url=_text(fields_given, "SubscribeURL") if kind is SnsType.SUBSCRIPTION else "",
        version=version,
        signature=signature,
        signed=signed,
        certificate_url=certificate_url,
    )


def check_subscribe_url(message: SnsMessage) -> str:
    """Return where a subscription is confirmed. Raises errors.WebhookForged for any other place."""
    url = message.subscribe_url
    asked = (
        parse_qs(urlsplit(url).query, max_num_fields=20) if _SUBSCRIBE_URL.fullmatch(url) else {}
    )
    if asked.get("Action") != ["ConfirmSubscription"] or asked.get("TopicArn") != [message.topic]:
        raise WebhookForged("its SubscribeURL does not confirm a subscription to its topic at SNS")
    return url


def _signed(kind: SnsType, given: Mapping[str, Any]) -> bytes:
    """Return each signed field's name and value, a line each; a subject only where there is one."""
    parts = [
        f"{name}\n{_text(given, name)}\n"
        for name in _SIGNED[kind]
        if name != _OPTIONAL or given.get(name) is not None
    ]
    # UnicodeEncodeError, which is a ValueError, for half of a surrogate pair.
    return "".join(parts).encode()


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise WebhookMalformed(f"it has no {name}")
    return value
