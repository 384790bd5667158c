"""Readers of a demo: shares that are exact, and requests whose class no load can change."""

from __future__ import annotations

from collections import Counter

import pytest

from campaign_worker.demo.people import BLOCK, BROWSER, PEOPLE, Act, Part, Person, person_of
from campaign_worker.tracking.classify import EventKind, Hit, Verdict, classify

KINDS = {
    Part.PICTURE: EventKind.OPEN,
    Part.FIRST_LINK: EventKind.CLICK,
    Part.LINKS: EventKind.CLICK,
    Part.ONE_CLICK: EventKind.UNSUBSCRIBE,
}
ACTS = [act for person in PEOPLE for act in (*person.acts, *person.again)]


@pytest.mark.parametrize("act", [act for act in ACTS if act.part in KINDS], ids=str)
def test_an_agent_is_classed_by_its_name_as_the_demo_expects(act: Act) -> None:
    hit = Hit(KINDS[act.part], act.method, {"user-agent": act.agent.text}, "127.0.0.1")
    verdict = classify(hit)
    assert verdict == Verdict(act.agent.visitor, act.agent.machine, verdict.rule)


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)
def test_who_is_a_person_clicks_one_link_only_and_never_looks_ahead(person: Person) -> None:
    human = [act for act in person.acts if not act.agent.machine]
    assert sum(act.part is Part.FIRST_LINK for act in human) <= 1
    assert all(act.part is not Part.LINKS and act.method != "HEAD" for act in human)
    assert all(act.at_once for act in person.again)


def test_people_come_in_exact_shares_and_are_the_same_in_every_run() -> None:
    shares = {person.name: person.share for person in PEOPLE}
    for block in range(3):
        numbers = range(block * BLOCK + 1, (block + 1) * BLOCK + 1)
        assert Counter(person_of(number).name for number in numbers) == shares
    assert [person_of(number) for number in range(1, 61)] == [
        person_of(number) for number in range(1, 61)
    ]
    assert [person_of(number) for number in range(1, 21)] != [
        person_of(number) for number in range(21, 41)
    ]


def test_people_wait_and_machines_and_mailboxes_do_not() -> None:
    assert not Act(Part.PICTURE).at_once
    assert not Act(Part.FIRST_LINK, BROWSER).at_once
    assert Act(Part.ONE_CLICK, method="POST").at_once
    assert all(act.at_once for act in ACTS if act.agent.machine)
