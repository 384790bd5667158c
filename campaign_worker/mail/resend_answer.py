"""Answers of Resend's API as results and errors. Everything in them is hostile until cleaned."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from campaign_worker.delivery.model import Accepted
from campaign_worker.errors import HttpLost, HttpRefused
from campaign_worker.mail.reply import clean

MAX_ANSWER_BYTES = 65_536
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


def accepted(status: int, headers: Mapping[str, str], body: bytes) -> Accepted:
    """Read an answer to POST /emails.

    Raises errors.HttpRefused; errors.HttpLost for a 2xx that names no mail, as of some proxy.
    """
    if not 200 <= status < 300:  # noqa: PLR2004 - RFC 9110, 15.3
        raise refused(status, headers, body)
    mail_id = _fields(body).get("id")
    if not isinstance(mail_id, str) or not mail_id:
        raise HttpLost(f"{status} without the id of a mail")
    return Accepted(f"{status} {clean(mail_id)}")


def refused(status: int, headers: Mapping[str, str], body: bytes) -> HttpRefused:
    """Read an error: {"statusCode", "name", "message"}, or whatever stands there instead."""
    fields = _fields(body)
    name, message = fields.get("name"), fields.get("message")
    known = name.lower() if isinstance(name, str) and _NAME.fullmatch(name.lower()) else ""
    text = clean(message) if isinstance(message, str) else ""
    if known == "validation_error" and "api key is invalid" in text.lower():
        # A revoked key is documented as invalid_api_key, and answered as any bad field.
        known = "invalid_api_key"
    return HttpRefused(status, known, text, _seconds(headers.get("retry-after", "")))


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text.strip()) else None
