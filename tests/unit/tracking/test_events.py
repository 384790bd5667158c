"""Events travel through a stream unchanged, and what is no event of ours is told from one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.tracking.classify import EventKind, Visitor
from campaign_worker.tracking.events import (
    MAX_AGENT_KEPT,
    TrackingEvent,
    cleaned_agent,
    from_fields,
    new_event_id,
    target_of,
    to_fields,
)

ids = st.integers(1, 2**63 - 1)
events = st.builds(
    TrackingEvent,
    id=st.uuids().map(lambda one: one.hex),
    message_id=ids,
    link_id=st.none() | ids,
    target=st.none() | st.integers(-(2**56), -1),
    kind=st.sampled_from(EventKind),
    head=st.booleans(),
    visitor=st.sampled_from(Visitor),
    machine=st.booleans(),
    client_hash=st.none() | st.binary(min_size=16, max_size=16),
    user_agent=st.text(max_size=300).map(cleaned_agent),
    occurred_at=st.datetimes(
        datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)  # noqa: DTZ001
    ),
)  # fmt: skip


@given(st.lists(events, max_size=5))
def test_what_is_written_down_is_read_again(batch: list[TrackingEvent]) -> None:
    read = from_fields(json.loads(json.dumps(to_fields(batch))))
    assert read == tuple(batch)


def test_an_entry_is_read_by_the_replicas_of_every_version() -> None:
    text = (
        '[["00000000000000000000000000000001", 7, null, -3569070525557142, "click", false,'
        ' "human", false, "01010101010101010101010101010101", "agent", 1767225600.0]]'
    )
    event = TrackingEvent(
        id=f"{1:032x}",
        message_id=7,
        link_id=None,
        target=target_of("https://example.org/"),
        kind=EventKind.CLICK,
        head=False,
        visitor=Visitor.HUMAN,
        machine=False,
        client_hash=b"\1" * 16,
        user_agent="agent",
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert from_fields({"version": "1", "events": text}) == (event,)
    assert to_fields([event]) == {"version": "1", "events": text}


@given(st.dictionaries(st.sampled_from(["version", "events"]), st.text(max_size=40)))
def test_what_another_version_wrote_is_no_fault(fields: dict[str, str]) -> None:
    assert from_fields(fields) is None


def test_entries_that_lie_about_their_version_are_no_fault() -> None:
    for text in ("[1]", "[[1]]", "{}", "null", '[["x",1,1,1,1,1,1,1,1,1,1]]', "9" * 5000, "["):
        assert from_fields({"version": "1", "events": text}) in (None, ())


@given(st.text(max_size=400))
def test_a_user_agent_is_fit_for_postgres(text: str) -> None:
    kept = cleaned_agent(text + "\ud800\0")
    assert kept is None or (len(kept) <= MAX_AGENT_KEPT and "\0" not in kept)
    assert kept is None or kept.encode()


def test_ids_are_unlike_each_other_and_in_the_order_of_time() -> None:
    made = [UUID(new_event_id()) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)
    assert {(one.version, one.variant) for one in made} == {(7, made[0].variant)}


@given(st.text(max_size=50), st.text(max_size=50))
def test_destinations_are_told_apart_below_all_ids(one: str, other: str) -> None:
    first, second = target_of("http://" + one), target_of("http://" + other)
    assert first is not None
    assert -(2**63) <= first < 0
    assert (first == second) == (one == other)
    assert target_of(None) is None
