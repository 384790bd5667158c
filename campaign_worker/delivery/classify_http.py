"""What a provider's HTTP API said, as a verdict: status and error name in, one of a closed set out.

Pure; reads no message. docs/resend-classification.md is the same table for people; a test compares
the two. Names and statuses: https://resend.com/docs/api-reference/errors
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from campaign_worker.delivery.classify import (
    MAX_HINT_SECONDS,
    Rejected,
    SenderRefused,
    Throttled,
    TransportRefuses,
)
from campaign_worker.errors import HttpLost, HttpRefused, SmtpPhase

QUOTA_SECONDS = 3600.0
"""A quota of a day or a month is asked about again after this, unless the provider says when."""

OURS = frozenset({401, 402, 403, 404, 405, 407})
KEYS = frozenset({"missing_api_key", "invalid_api_key", "restricted_api_key", "suspended_api_key"})
GATEWAY = frozenset({502, 503, 504})
QUOTAS = frozenset({"daily_quota_exceeded", "monthly_quota_exceeded"})


@dataclass(frozen=True, slots=True)
class Again:
    """It may have been executed: the same request with the same key, later; no attempt is spent.

    `rests`: nothing behind the provider's door answers, so the transport pauses as well.
    """

    detail: str
    hint_seconds: float | None = None
    rests: bool = False


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The provider knows the key with another body: some mail of this row went out."""

    detail: str


HttpVerdict: TypeAlias = Rejected | Throttled | TransportRefuses | SenderRefused | Again | Mismatch


def classify_http(ending: HttpRefused | HttpLost) -> HttpVerdict:
    """Judge how a request ended that was not answered with the id of a mail."""
    if isinstance(ending, HttpLost):
        return Again(str(ending))
    return refused_with(ending.status, ending.name, str(ending), ending.retry_after_seconds)


def refused_with(
    status: int, name: str, detail: str, retry_after_seconds: float | None = None
) -> HttpVerdict:
    """Judge an answer by its status and the `name` of its error."""
    hint_seconds = _bounded(retry_after_seconds)
    match status:
        case _ if name in KEYS:
            return TransportRefuses(detail, SmtpPhase.AUTH)
        case 403 if name == "validation_error":
            # A domain that is not verified; 422 is a From that is none.
            return SenderRefused(detail)
        case 422 if name == "invalid_from_address":
            return SenderRefused(detail)
        case 409 if name == "invalid_idempotent_request":
            return Mismatch(detail)
        case 408 | 409:
            return Again(detail, hint_seconds)
        case 429 if name in QUOTAS:
            return Throttled(detail, hint_seconds or QUOTA_SECONDS)
        case 429:
            return Throttled(detail, hint_seconds)
        case _ if status in OURS or 300 <= status < 400:  # noqa: PLR2004 - RFC 9110, 15.4
            # A redirect is not followed: what is posted twice is sent twice.
            return TransportRefuses(detail, SmtpPhase.AUTH)
        case _ if 400 <= status < 500:  # noqa: PLR2004 - RFC 9110, 15.5
            return Rejected(detail)
        case _:
            return Again(detail, hint_seconds, rests=status in GATEWAY)


def _bounded(retry_after_seconds: float | None) -> float | None:
    if retry_after_seconds is None:
        return None
    return min(max(retry_after_seconds, 0.0), float(MAX_HINT_SECONDS))
