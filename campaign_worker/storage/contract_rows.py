"""What an app's rows say, in our terms: pure functions from a contract's columns to our values."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from campaign_worker.contract.model import CampaignStatus, Contract
from campaign_worker.contract.statements import SPECS
from campaign_worker.delivery.guard import AppFacts

_RECIPIENT = next(spec for spec in SPECS if spec.place == "load.recipients")
_KNOWN = {*_RECIPIENT.required, *_RECIPIENT.optional} - {"data"}
_EMAIL = re.compile(r"[^\x00-\x1f\x7f-\x9f]*@[^\x00-\x1f\x7f-\x9f]*")
_EMAIL_LENGTHS = range(3, 321)
_CONDITIONS = ("always", "opened", "not_opened", "clicked", "not_clicked")
_LONGEST_DELAY_SECONDS = 31_622_400
_STEP_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Texts:
    """A template's sources."""

    subject: str
    html: str | None
    text: str | None

    @property
    def digest(self) -> str:
        """What tells these texts from all others."""
        parts = json.dumps([self.subject, self.html, self.text])
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class AppStep:
    """A follow-up as the app describes it."""

    campaign: str
    step: int
    key: str | None
    texts: Texts
    delay_seconds: int
    condition: str
    stop_on_reply: bool


def texts_of(row: Any) -> Texts:
    """Read the sources of a campaign's or a follow-up's mail; an empty part is none."""
    html, text = get(row, "html"), get(row, "text")
    # A template has a body; of two empty ones the text is kept.
    return Texts(str(row["subject"] or ""), html or None, text or (None if html else ""))


def headers_of(row: Any) -> str:
    """Read a campaign's headers as JSON; a null of JSON is none, as a null of SQL."""
    headers = get(row, "headers")
    return "{}" if headers in (None, "", "null") else str(headers)


def status_of(contract: Contract, word: str | None) -> CampaignStatus | None:
    """Read the app's word for a status; None: it stands nowhere."""
    load = contract.load.campaigns
    if load is None:
        return None
    return next((status for status, words in load.status.items() if word in words), None)


def step_of(row: Any) -> AppStep:
    """Read a row of load.steps; what is out of bounds is brought to them."""
    delay = float(get(row, "delay_seconds") or 0)
    # As Postgres orders it: NaN is greater than all numbers.
    delay = _LONGEST_DELAY_SECONDS if math.isnan(delay) else delay
    condition = get(row, "condition") or "always"
    return AppStep(
        campaign=str(row["campaign_id"]),
        step=int(row["step"]),
        key=None if get(row, "id") is None else str(get(row, "id")),
        texts=texts_of(row),
        delay_seconds=round(min(max(delay, 0), _LONGEST_DELAY_SECONDS)),
        condition=condition if condition in _CONDITIONS else "always",
        stop_on_reply=get(row, "stop_on_reply") is not False,
    )


def usable_step(row: Any) -> bool:
    """Whether a row of load.steps is a follow-up: one without a number may be a draft."""
    return row["step"] is not None and 1 <= row["step"] <= _STEP_MAX


def usable_email(email: str | None) -> bool:
    """Whether our table takes it; what an address is, the composer knows better."""
    return email is not None and len(email) in _EMAIL_LENGTHS and bool(_EMAIL.fullmatch(email))


def data_of(row: Any) -> str:
    """Give the variables of templates as JSON: `data`, and every column that is no other's."""
    data = get(row, "data")
    others = {
        name: _sayable(value)
        for name, value in row.items()
        if name not in _KNOWN and name != "data"
    }
    try:
        given = json.loads(data) if isinstance(data, str) else data
        values = {**(given if isinstance(given, dict) else {}), **others}
        return json.dumps(values, default=str, sort_keys=True)
    except (ValueError, RecursionError):
        # Postgres can read it. The mail that is made of it will say that we cannot.
        return str(data)


def _sayable(value: Any) -> Any:
    """Give what JSON has no number for as a text: NaN, Infinity."""
    if isinstance(value, list):
        return [_sayable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(Decimal(value))
    return value


def facts_of(rows: Iterable[Any]) -> AppFacts:
    """Give what the app's rows of one recipient of ours say; several of them speak as one."""
    steps = []
    opened = clicked = False
    for row in rows:
        steps.append(0 if get(row, "sent") else -1)
        step = get(row, "sent_step")
        steps.append(-1 if step is None else int(step))
        opened = opened or bool(get(row, "opened"))
        clicked = clicked or bool(get(row, "clicked"))
    if not steps:
        return AppFacts(gone=True)
    return AppFacts(sent_step=max(steps), opened=opened, clicked=clicked)


def get(row: Any, name: str) -> Any:
    """Read a column that need not be there."""
    return row.get(name)
