"""Reads rules.toml into frozen rules, once, and says what is wrong with it. Decides about nobody.

A rule that is misspelt would silently never fit, so every key and every value is checked.
"""

from __future__ import annotations

import bisect
import ipaddress
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, Final, TypeVar

KINDS: Final = frozenset({"open", "click", "unsubscribe"})
VISITORS: Final = frozenset({"human", "privacy_proxy", "prefetch", "scanner"})

_MAPPED_V4: Final = b"\x00" * 10 + b"\xff\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What every rule says: a name, its conclusion, for which kinds, and where that is from."""

    name: str
    visitor: str
    machine: bool
    kinds: frozenset[str]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRule(Rule):
    """Fits requests of one HTTP method."""

    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRule(Rule):
    """Fits requests with a header whose value begins with one of `starts_with`."""

    header: str
    starts_with: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRule(Rule):
    """Fits user agents: `exact`, by their beginning, a part of them, or a word in them."""

    exact: frozenset[str]
    starts_with: tuple[str, ...]
    starts_otherwise: tuple[str, ...]
    contains: tuple[str, ...]
    words: tuple[str, ...]
    exceptions: tuple[str, ...]

    def fits(self, agent: str) -> bool:
        """Whether an agent in lower case fits; linear in its length."""
        if agent in self.exact or agent.startswith(self.starts_with):
            return True
        if self.starts_otherwise and not agent.startswith(self.starts_otherwise):
            return True
        # Loops, not generators: this is most of what a request costs.
        for part in self.contains:
            if part in agent:
                return True
        for word in self.words:
            if word in agent:
                return self._has_a_word(agent)
        return False

    def _has_a_word(self, agent: str) -> bool:
        for exception in self.exceptions:
            agent = agent.replace(exception, "")
        for word in self.words:
            at = agent.find(word)
            while at >= 0:
                after = agent[at + len(word) : at + len(word) + 1]
                if not "a" <= after <= "z":
                    return True
                at = agent.find(word, at + 1)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRule(Rule):
    """Fits addresses in networks; each is (first, last) as 16 bytes, IPv4 mapped (RFC 4291)."""

    networks: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Relations between the rows of one message that tell machines, in seconds."""

    prefetch_seconds_after_send: float
    scanner_window_seconds: float


class RuleBook:
    """All rules of one file. `table` is what TOML gives; ValueError names a rule that is wrong."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        unknown = set(table) - {"timing", "method", "header", "agent", "network"}
        if unknown:
            raise ValueError(f"unknown kinds of rules: {sorted(unknown)}")
        timing = {key: value for key, value in table["timing"].items() if key != "source"}
        self.timing = Timing(**timing)
        self.methods = tuple(_method_rule(entry) for entry in table.get("method", ()))
        self.headers = tuple(_header_rule(entry) for entry in table.get("header", ()))
        self.agents = tuple(_agent_rule(entry) for entry in table.get("agent", ()))
        self._networks = tuple(_network_rule(entry) for entry in table.get("network", ()))
        self.all: tuple[Rule, ...] = (*self.methods, *self.headers, *self.agents, *self._networks)
        names = [rule.name for rule in self.all]
        if len(set(names)) != len(names) or "none" in names:
            raise ValueError("two rules have one name, or one is called none")
        ranges = sorted(
            (first, last, rule) for rule in self._networks for first, last in rule.networks
        )
        self._firsts = [first for first, _, _ in ranges]
        self._lasts = [(last, rule) for _, last, rule in ranges]
        if any(
            last >= later for (last, _), later in zip(self._lasts, self._firsts[1:], strict=False)
        ):
            raise ValueError("two networks overlap")

    def network_of(self, address: str) -> NetworkRule | None:
        """Return the rule whose networks hold an address; None for none, and for no address."""
        packed = _packed(address)
        if packed is None:
            return None
        index = bisect.bisect_right(self._firsts, packed) - 1
        if index < 0:
            return None
        last, rule = self._lasts[index]
        return rule if packed <= last else None


def load() -> RuleBook:
    """Read the rules that come with the package."""
    text = resources.files(__package__).joinpath("rules.toml").read_text("utf-8")
    return RuleBook(tomllib.loads(text))


_R = TypeVar("_R", bound=Rule)


def _made(rule: type[_R], entry: Mapping[str, Any], **own: Any) -> _R:
    """Make a rule of its common values and its own; every key of the entry must be known."""
    kinds = frozenset(entry.get("kinds", KINDS))
    known = {"name", "visitor", "machine", "kinds", "source"} | {
        "is" if field.name == "exact" else "except" if field.name == "exceptions" else field.name
        for field in fields(rule)
    }
    name = entry.get("name", "?")
    if not kinds <= KINDS or not kinds:
        raise ValueError(f"rule {name}: unknown kinds {sorted(kinds)}")
    if entry.get("visitor") not in VISITORS or not isinstance(entry.get("machine"), bool):
        raise ValueError(f"rule {name}: it names no visitor, or not whether that is a machine")
    if not entry.get("source") or set(entry) - known:
        raise ValueError(f"rule {name}: no source, or unknown keys {sorted(set(entry) - known)}")
    common: dict[str, Any] = {key: entry[key] for key in ("name", "visitor", "machine", "source")}
    return rule(**common, kinds=kinds, **own)


def _lower(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    texts: Sequence[str] = entry.get(key, ())
    if isinstance(texts, str) or any(text != text.lower() for text in texts):
        raise ValueError(f"rule {entry.get('name')}: {key} is a list of texts in lower case")
    return tuple(texts)


def _method_rule(entry: Mapping[str, Any]) -> MethodRule:
    return _made(MethodRule, entry, method=entry["method"])


def _header_rule(entry: Mapping[str, Any]) -> HeaderRule:
    header = str(entry["header"])
    if header != header.lower():
        raise ValueError(f"rule {entry.get('name')}: header is a name in lower case")
    return _made(HeaderRule, entry, header=header, starts_with=_lower(entry, "starts_with"))


def _agent_rule(entry: Mapping[str, Any]) -> AgentRule:
    return _made(
        AgentRule,
        entry,
        exact=frozenset(_lower(entry, "is")),
        starts_with=_lower(entry, "starts_with"),
        starts_otherwise=_lower(entry, "starts_otherwise"),
        contains=_lower(entry, "contains"),
        words=_lower(entry, "words"),
        exceptions=_lower(entry, "except"),
    )


def _network_rule(entry: Mapping[str, Any]) -> NetworkRule:
    networks = [ipaddress.ip_network(text) for text in entry["networks"]]
    ranges = tuple(
        (_sixteen(net.network_address.packed), _sixteen(net.broadcast_address.packed))
        for net in networks
    )
    return _made(NetworkRule, entry, networks=ranges)


def _packed(address: str) -> bytes | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return _sixteen(socket.inet_pton(family, address))
    except (OSError, ValueError):
        # No address at all, a NUL in it, or something that is not even text for the C library.
        return None


def _sixteen(packed: bytes) -> bytes:
    return packed if len(packed) == len(_MAPPED_V4) + 4 else _MAPPED_V4 + packed


BOOK: Final = load()
