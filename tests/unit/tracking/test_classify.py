"""Who asked is told from what was recorded; what nobody expects is kept and costs little."""

from __future__ import annotations

import copy
import time
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from campaign_worker.tracking.classify import (
    TIMING,
    EventKind,
    Hit,
    Verdict,
    Visitor,
    classify,
)
from campaign_worker.tracking.rules import BOOK, RuleBook

RECORDED = tomllib.loads(Path(__file__).with_name("visitors.toml").read_text("utf-8"))["request"]
RULES = tomllib.loads(
    resources.files("campaign_worker.tracking").joinpath("rules.toml").read_text("utf-8")
)
CHROME = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/131.0.0.0 Safari/537.36"
)


def hit_of(record: dict[str, Any]) -> Hit:
    headers = {**record.get("headers", {}), "user-agent": record["agent"]}
    kind = EventKind(record.get("kind", "open"))
    return Hit(kind, record.get("method", "GET"), headers, record.get("client_ip"))


def title(record: dict[str, Any]) -> str:
    return f"{record['rule']}-{record.get('kind', 'open')}-{record['agent'][:40] or 'nothing'}"


@pytest.mark.parametrize("record", RECORDED, ids=title)
def test_a_recorded_request_is_taken_for_what_it_was(record: dict[str, Any]) -> None:
    said = classify(hit_of(record))
    assert said == Verdict(Visitor(record["visitor"]), record["machine"], record["rule"])


def test_there_are_many_records_and_each_says_where_it_is_from() -> None:
    # One that is asked for several things counts once.
    asked = {(record["agent"], *sorted(record.get("headers", {}).items())) for record in RECORDED}
    assert len(asked) >= 60
    assert [record["agent"] for record in RECORDED if not record["from"]] == []
    tried = {record["rule"] for record in RECORDED}
    # The page of Gmail's button is asked for by POST; the rule is for a GET before it.
    untried = {rule.name for rule in BOOK.all} - tried
    assert untried <= {"unsubscribe_by_gmail", "operators_page_at_click"}


def test_who_fetches_when_a_person_opens_is_no_machine_and_apple_is() -> None:
    machines = {rule.name: rule.machine for rule in BOOK.all if rule.visitor == "privacy_proxy"}
    assert machines["gmail_image_proxy"] is machines["yahoo_mail_proxy"] is False
    assert machines["apple_mail_privacy"] is machines["image_proxy_elsewhere"] is True


def test_prefetches_and_scanners_are_machines_and_people_are_none() -> None:
    for rule in BOOK.all:
        if rule.visitor != "privacy_proxy":
            assert rule.machine is (rule.visitor != "human"), rule.name


def test_the_timing_of_rows_is_said_in_the_same_file() -> None:
    assert 0 < TIMING.scanner_window_seconds < TIMING.prefetch_seconds_after_send < 60


def test_headers_are_found_in_any_spelling_that_the_server_hands_over() -> None:
    given_over = CIMultiDict({"User-Agent": CHROME, "Sec-Purpose": "Prefetch;prerender"})
    hit = Hit(EventKind.CLICK, "GET", CIMultiDictProxy(given_over))
    assert classify(hit).visitor is Visitor.PREFETCH


@pytest.mark.parametrize(
    "address", ["", "x", "1.2.3", "40.107.0.1\x00", "fe80::1%eth0", "\udc80", "9" * 5000, ":" * 999]
)
def test_what_is_no_address_belongs_to_no_network(address: str) -> None:
    hit = Hit(EventKind.CLICK, "GET", {"user-agent": CHROME}, address)
    assert classify(hit) == Verdict(Visitor.HUMAN, machine=False, rule="none")


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("40.91.255.255", "none"),
        ("40.92.0.0", "microsoft_365_protection"),
        ("40.93.255.255", "microsoft_365_protection"),
        ("40.94.0.0", "none"),
        ("1.0.0.0", "none"),
        ("255.255.255.255", "none"),
        ("::", "none"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "none"),
    ],
)
def test_a_network_ends_where_it_ends(address: str, rule: str) -> None:
    assert classify(Hit(EventKind.OPEN, "GET", {"user-agent": CHROME}, address)).rule == rule


texts = st.text(st.characters(), max_size=600)
names = st.sampled_from(
    ["user-agent", "sec-purpose", "purpose", "x-purpose", "x-moz", "from", "via"]
)


@given(
    kind=st.sampled_from(EventKind),
    method=st.sampled_from(["GET", "HEAD", "POST", "get", ""]) | texts,
    headers=st.dictionaries(names, texts),
    address=st.none() | texts | st.ip_addresses().map(str),
)
def test_every_request_gets_one_class_the_same_each_time(
    kind: EventKind, method: str, headers: dict[str, str], address: str | None
) -> None:
    said = classify(Hit(kind, method, headers, address))
    assert said == classify(Hit(kind, method, headers, address))
    known = {rule.name: (rule.visitor, rule.machine) for rule in BOOK.all}
    known["none"] = ("human", False)
    assert known[said.rule] == (said.visitor, said.machine)


@pytest.mark.parametrize(
    "agent",
    [
        "bot" * 3_000_000,
        "Mozilla/5.0 " + "b" * 9_000_000,
        "\x00" * 9_000_000,
        "\udc80\U0001f600" * 3_000_000,
        "(" * 9_000_000,
    ],
    ids=["bots", "b", "nul", "surrogates", "brackets"],
)
def test_a_huge_header_costs_no_more_than_a_long_one(agent: str) -> None:
    headers = {"user-agent": agent, "sec-purpose": agent, "from": ""}
    began = time.thread_time()
    for each in range(20):
        # Different ones, so that none is remembered.
        classify(Hit(EventKind.CLICK, "GET", {**headers, "user-agent": f"Mozilla/{each}{agent}"}))
    # Copying the text 20 times is most of it; looking at all of it would take minutes.
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("agent", {"contain": ["x"]}),
        ("agent", {"contains": ["Upper"]}),
        ("agent", {"contains": "text"}),
        ("agent", {"visitor": "robot"}),
        ("agent", {"machine": "yes"}),
        ("agent", {"kinds": ["read"]}),
        ("agent", {"kinds": []}),
        ("agent", {"source": ""}),
        ("agent", {"name": "head"}),
        ("agent", {"name": "none"}),
        ("header", {"header": "From"}),
        ("network", {"networks": ["10.0.0.0/33"]}),
        ("network", {"networks": ["209.222.80.0/22"]}),
    ],
)
def test_a_rule_that_could_never_fit_is_refused(table: str, change: dict[str, Any]) -> None:
    rules = copy.deepcopy(RULES)
    rules[table][0] |= change
    with pytest.raises(ValueError, match=r".+"):
        RuleBook(rules)


def test_an_unknown_kind_of_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="agents"):
        RuleBook({**RULES, "agents": []})
