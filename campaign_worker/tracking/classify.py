"""Who asked for a tracked URL: a person, a proxy for one, a prefetch or a scanner. Pure.

Every rule is in rules.toml, with its source. Nothing is dropped: a class is kept beside each event.
What takes the rows of a message to see (TIMING) is decided where they are written.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from campaign_worker.tracking import rules

MAX_AGENT: Final = 512
"""Characters of a user agent that are looked at; a browser's has some 120."""

_MAX_VALUE: Final = 64
_AGENTS_KEPT: Final = 2048


class EventKind(enum.StrEnum):
    """What was asked for; the values are those of tracking_events.kind."""

    OPEN = "open"
    CLICK = "click"
    UNSUBSCRIBE = "unsubscribe"


class Visitor(enum.StrEnum):
    """Who asked; the values are those of tracking_events.class."""

    HUMAN = "human"
    PRIVACY_PROXY = "privacy_proxy"
    PREFETCH = "prefetch"
    SCANNER = "scanner"


class Hit(NamedTuple):
    """One request: `headers` by lower-case name (or any mapping that ignores case).

    `client_ip` is the address of whoever asked, as far as the way here can be trusted.
    """

    kind: EventKind
    method: str
    headers: Mapping[str, str]
    client_ip: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who asked, whether that counts as a machine's, and the name of the rule that says so."""

    visitor: Visitor
    machine: bool
    rule: str


TIMING: Final = rules.BOOK.timing
PERSON: Final = Verdict(Visitor.HUMAN, machine=False, rule="none")
"""Whoever fits no rule."""

_VERDICTS: Final = {
    rule.name: Verdict(Visitor(rule.visitor), rule.machine, rule.name) for rule in rules.BOOK.all
}


def classify(hit: Hit) -> Verdict:
    """Name the class of one request by the first rule that fits.

    Takes time linear in what is looked at, which is bounded: 512 characters of the user agent, 64
    of any other header.
    """
    for of_method in rules.BOOK.methods:
        if hit.method == of_method.method and hit.kind in of_method.kinds:
            return _VERDICTS[of_method.name]
    for of_header in rules.BOOK.headers:
        value = hit.headers.get(of_header.header)
        if (
            value
            and value[:_MAX_VALUE].strip().lower().startswith(of_header.starts_with)
            and hit.kind in of_header.kinds
        ):
            return _VERDICTS[of_header.name]
    agent = hit.headers.get("user-agent", "")[:MAX_AGENT]
    return _by_agent(hit.kind, agent) or _by_network(hit.kind, hit.client_ip) or PERSON


@functools.lru_cache(maxsize=_AGENTS_KEPT)
def _by_agent(kind: EventKind, agent: str) -> Verdict | None:
    # NUL and blanks around it are how some say nothing at all.
    text = agent.replace("\x00", "").strip().lower()
    for rule in rules.BOOK.agents:
        if kind in rule.kinds and rule.fits(text):
            return _VERDICTS[rule.name]
    return None


def _by_network(kind: EventKind, client_ip: str | None) -> Verdict | None:
    if client_ip is None:
        return None
    rule = rules.BOOK.network_of(client_ip)
    return _VERDICTS[rule.name] if rule is not None and kind in rule.kinds else None
