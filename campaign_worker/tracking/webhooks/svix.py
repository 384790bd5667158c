"""Svix' signatures, which Resend uses (https://docs.svix.com/receiving/verifying-payloads/how-manual).

HMAC-SHA256 over id, time and body. A time that is more than five minutes off is refused, so that a
webhook which was seen on its way cannot be sent again later.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from campaign_worker.errors import WebhookForged
from campaign_worker.settings import Secret
from campaign_worker.tracking.webhooks.feedback import Headers

TOLERANCE_SECONDS: Final = 300
_PREFIX: Final = "whsec_"
_VERSION: Final = "v1"
_MAX_SIGNATURES: Final = 20
_ID = re.compile(r"[!-~]{1,255}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class SvixVerifier:
    """Knows the secrets of one route's endpoints. `now` gives Unix time in seconds."""

    def __init__(self, secrets: Sequence[Secret], *, now: Callable[[], float] = time.time) -> None:
        self._keys = [
            base64.b64decode(secret.get_secret_value().removeprefix(_PREFIX)) for secret in secrets
        ]
        self._now = now

    def verify(self, headers: Headers, body: bytes) -> str:
        """Return the id of an authentic event. Raises errors.WebhookForged."""
        event_id = _header(headers, "id")
        timestamp = _header(headers, "timestamp")
        if not _ID.fullmatch(event_id) or not _TIMESTAMP.fullmatch(timestamp):
            raise WebhookForged("it has no id or no time")
        if abs(self._now() - int(timestamp)) > TOLERANCE_SECONDS:
            raise WebhookForged(f"its time is more than {TOLERANCE_SECONDS} s off")
        signed = f"{event_id}.{timestamp}.".encode() + body
        given = _signatures(_header(headers, "signature"))
        for key in self._keys:
            expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
            # All are compared, whichever fits.
            if sum(hmac.compare_digest(expected, each) for each in given):
                return event_id
        raise WebhookForged("no signature of it is by a secret of ours")


def _header(headers: Headers, name: str) -> str:
    return headers.get(f"svix-{name}", "") or headers.get(f"webhook-{name}", "")


def _signatures(text: str) -> list[bytes]:
    parts = (part.partition(",") for part in text.split(" ", _MAX_SIGNATURES)[:_MAX_SIGNATURES])
    return [value.encode("utf-8", "replace") for version, _, value in parts if version == _VERSION]
