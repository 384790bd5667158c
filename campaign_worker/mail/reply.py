"""Replies of SMTP servers as safe text and codes. Everything in them is hostile until cleaned."""

from __future__ import annotations

import re

from campaign_worker.delivery.classify import (
    HardBounce,
    Rejected,
    SenderRefused,
    Throttled,
    Transient,
    TransportRefuses,
    refused_in,
)
from campaign_worker.delivery.model import Refusal
from campaign_worker.errors import SmtpPhase

MAX_TEXT = 500

# Controls, C1 controls, lone surrogates (undecodable bytes), line and paragraph separators, bidi.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNDECODABLE = re.compile("[\ud800-\udfff]")
# At the start, or after "#" as some servers write it: "550 #5.1.0", "550 no such user (#5.1.1)".
_ENHANCED = re.compile(r"(?:\A|#)([245]\.\d{1,3}\.\d{1,3})(?![\d.])", re.ASCII)
_MILDEST_FIRST = (Throttled, Transient, TransportRefuses, SenderRefused, Rejected, HardBounce)


def clean(text: str) -> str:
    """Give a reply as one line: controls to spaces, undecodable bytes to U+FFFD, 500 characters."""
    # Cut first: a reply may be 32 kB long.
    text = _UNDECODABLE.sub("\ufffd", text[: 2 * MAX_TEXT])
    return " ".join(_UNSAFE.sub(" ", text).split())[:MAX_TEXT]


def enhanced_code(text: str) -> str | None:
    """Find the enhanced status code of a reply text (RFC 3463), such as "5.1.1"."""
    found = _ENHANCED.search(text)
    return None if found is None else found[1]


def mildest(refusals: list[Refusal]) -> Refusal:
    """Choose the refusal that stands for all: nobody is given up while one may go well later."""

    def rank(one: Refusal) -> int:
        verdict = refused_in(SmtpPhase.RCPT, one.code, one.enhanced, one.text)
        return _MILDEST_FIRST.index(type(verdict))

    return min(refusals, key=rank)
