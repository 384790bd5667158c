"""What only rows can tell about an event: the same whatever the order in which they are written."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.storage.tracking import PostgresEvents
from campaign_worker.tracking.classify import TIMING, EventKind, Visitor
from shutdown import Deadline
from tests.integration.storage.kit import accepted
from tests.integration.tracking.kit import LONG_AFTER, Sent, Tracked, event

if TYPE_CHECKING:
    from campaign_worker.tracking.events import TrackingEvent

OPEN, CLICK = EventKind.OPEN, EventKind.CLICK
MOMENT = TIMING.scanner_window_seconds


async def test_an_open_and_a_click_count_once_however_often_they_are_written(
    tracked: Tracked,
) -> None:
    sent = await tracked.sent()
    both = [event(sent), event(sent, CLICK, after=LONG_AFTER + 5)]
    for _ in range(2):
        await tracked.events.write(both)
        await tracked.events.write([*both, both[0]])
    assert await tracked.counts(sent) == {
        "open": 1,
        "click": 1,
        "unique_open": 1,
        "unique_click": 1,
    }
    assert await tracked.firsts(sent) == (LONG_AFTER, LONG_AFTER + 5)
    await tracked.assert_true()


async def test_a_click_of_a_person_opens_an_unopened_message(tracked: Tracked) -> None:
    sent = await tracked.sent()
    await tracked.events.write([event(sent, CLICK)])
    assert await tracked.counts(sent) == {"click": 1, "unique_open": 1, "unique_click": 1}
    assert await tracked.firsts(sent) == (LONG_AFTER, LONG_AFTER)
    await tracked.assert_true()


@pytest.mark.parametrize("kind", [OPEN, CLICK])
async def test_a_machine_opens_and_clicks_nothing(tracked: Tracked, kind: EventKind) -> None:
    sent = await tracked.sent()
    await tracked.events.write([event(sent, kind, visitor=Visitor.SCANNER)])
    assert await tracked.counts(sent) == {f"machine_{kind.value}": 1}
    assert await tracked.firsts(sent) == (None, None)
    await tracked.assert_true()


async def test_the_first_is_the_earliest_and_not_the_one_that_came_first(tracked: Tracked) -> None:
    sent = await tracked.sent()
    for after in (300.0, 100.0, 200.0):
        await tracked.events.write([event(sent, after=after)])
    assert await tracked.firsts(sent) == (100.0, None)
    await tracked.assert_true()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-1.0, "prefetch*"),
        (0.5, "prefetch*"),
        (TIMING.prefetch_seconds_after_send - 0.001, "prefetch*"),
        (TIMING.prefetch_seconds_after_send + 0.001, "human"),
    ],
)
async def test_what_comes_within_seconds_of_the_send_is_a_prefetch(
    tracked: Tracked, after: float, expected: str
) -> None:
    sent = await tracked.sent()
    events = [event(sent, OPEN, after=after), event(sent, CLICK, after=after)]
    await tracked.events.write(events)
    assert await tracked.classes(events) == [expected] * 2


async def test_what_was_a_machine_before_keeps_its_class(tracked: Tracked) -> None:
    sent = await tracked.sent()
    events = [event(sent, CLICK, after=1.0, visitor=Visitor.SCANNER)]
    await tracked.events.write(events)
    assert await tracked.classes(events) == ["scanner*"]


async def test_it_is_the_mark_before_the_final_dot_that_counts_and_not_a_late_answer(
    tracked: Tracked,
) -> None:
    """Written at once the row is not settled yet; drained later it is: both say the same."""
    campaign = await tracked.world.campaign()
    claim = await tracked.world.marked(campaign.request())
    row = await tracked.world.value(
        "UPDATE $messages SET marked_at = now() - interval '1 day' WHERE id = $1"
        " RETURNING marked_at",
        claim.id,
    )
    sent = Sent(claim.id, campaign, row)
    soon, later = event(sent, after=1.0), event(sent)
    await tracked.events.write([soon, later])
    await tracked.world.settle(claim, accepted(claim))
    again = [event(sent, after=1.0), event(sent)]
    await tracked.events.write(again)
    assert await tracked.classes([soon, later, *again]) == ["prefetch*", "human"] * 2


def _burst(sent: Sent) -> list[TrackingEvent]:
    return [event(sent, CLICK, after=LONG_AFTER + place / 10, target=place) for place in range(3)]


def _head_then_get(sent: Sent) -> list[TrackingEvent]:
    return [
        event(sent, CLICK, head=True),
        event(sent, CLICK, after=LONG_AFTER + MOMENT / 2),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
async def test_clicks_of_several_links_within_a_moment_are_a_scanners(
    tracked: Tracked, order: tuple[int, ...], together: bool
) -> None:
    sent = await tracked.sent()
    events = [_burst(sent)[place] for place in order]
    for batch in [events] if together else [[one] for one in events]:
        await tracked.events.write(batch)
    assert await tracked.classes(events) == ["scanner*"] * 3
    assert await tracked.counts(sent) == {"machine_click": 3}
    assert await tracked.firsts(sent) == (None, None)
    await tracked.assert_true()


async def test_a_scanner_takes_its_first_click_back_and_leaves_those_of_the_person(
    tracked: Tracked,
) -> None:
    sent = await tracked.sent()
    persons = [event(sent, after=500.0), event(sent, CLICK, after=510.0)]
    await tracked.events.write([*persons, _burst(sent)[0]])
    assert await tracked.firsts(sent) == (LONG_AFTER, LONG_AFTER)
    await tracked.events.write(_burst(sent)[1:])
    assert await tracked.firsts(sent) == (500.0, 510.0)
    assert await tracked.counts(sent) == {
        "open": 1,
        "click": 1,
        "machine_click": 3,
        "unique_open": 1,
        "unique_click": 1,
    }
    await tracked.assert_true()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", [OPEN, CLICK])
async def test_head_and_then_get_is_a_scanner_and_get_and_then_head_is_not(
    tracked: Tracked, kind: EventKind, turned: bool
) -> None:
    sent = await tracked.sent()
    head = event(sent, kind, head=True)
    after, before = (
        event(sent, kind, after=LONG_AFTER + MOMENT / 2),
        event(sent, kind, after=LONG_AFTER - MOMENT / 2),
    )
    events = [after, before, head] if turned else [head, before, after]
    for one in events:
        await tracked.events.write([one])
    assert await tracked.classes([head, before, after]) == ["scanner*", "human", "scanner*"]
    await tracked.assert_true()


async def test_the_same_link_twice_and_links_of_two_messages_are_no_scanner(
    tracked: Tracked,
) -> None:
    campaign = await tracked.world.campaign(2)
    one, other = await tracked.sent(campaign), await tracked.sent(campaign, 1)
    events = [
        event(one, CLICK, target=1),
        event(one, CLICK, target=1, after=LONG_AFTER + 0.1),
        event(other, CLICK, target=2),
        event(one, CLICK, target=2, after=LONG_AFTER + 3 * MOMENT),
        event(one, OPEN),
    ]
    await tracked.events.write(events)
    assert await tracked.classes(events) == ["human"] * 5
    await tracked.assert_true()


async def test_two_replicas_that_write_at_once_see_each_others_events(
    tracked: Tracked, database_url: str
) -> None:
    elsewhere = Database(DatabaseOptions(dsn=database_url, pool_size=2))
    await elsewhere.open()
    try:
        other = PostgresEvents(elsewhere, TIMING)
        campaign = await tracked.world.campaign(20)
        mails = [await tracked.sent(campaign, index) for index in range(20)]
        bursts = [_burst(sent) for sent in mails]
        await asyncio.gather(
            tracked.events.write([burst[0] for burst in bursts]),
            other.write([burst[1] for burst in reversed(bursts)]),
            tracked.events.write([burst[2] for burst in bursts]),
        )
        classes = await tracked.classes([one for burst in bursts for one in burst])
        assert classes == ["scanner*"] * 60
        await tracked.assert_true()
    finally:
        await elsewhere.close(Deadline.after(2))


async def test_no_table_is_read_as_a_whole_however_small_it_was_when_the_plan_was_made(
    tracked: Tracked,
) -> None:
    campaign = await tracked.world.campaign(10)
    mails = [await tracked.sent(campaign, index) for index in range(10)]
    async with tracked.world.database.transaction() as connection:
        before = await _scans(connection)
        for _ in range(12):
            batch = [one for sent in mails for one in _burst(sent)]
            await connection.fetchval(
                tracked.world.database.sql["record_tracking_events"],
                *zip(*batch, strict=True),
                TIMING.prefetch_seconds_after_send,
                MOMENT,
            )
        assert await _scans(connection) == before


async def _scans(connection: Any) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT relname, seq_scan FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('messages', 'tracking_events') AND schemaname = 'campaign_worker'"
    )
    return {row["relname"]: row["seq_scan"] for row in rows}


moments = st.integers(0, 12).map(lambda tenths: LONG_AFTER + tenths / 4)
shapes = st.lists(
    st.tuples(
        st.sampled_from([OPEN, CLICK]), moments, st.integers(1, 3), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shapes=shapes, data=st.data())
async def test_any_order_and_any_batches_give_the_same_classes_counts_and_times(
    tracked: Tracked,
    shapes: list[tuple[EventKind, float, int, bool, bool]],
    data: st.DataObject,
) -> None:
    orders = [list(range(len(shapes))), data.draw(st.permutations(range(len(shapes))))]
    seen = []
    for order in orders:
        sent = await tracked.sent()
        events = [
            event(
                sent,
                kind,
                after=after,
                target=target if kind is CLICK else None,
                head=head,
                visitor=Visitor.SCANNER if machine else Visitor.HUMAN,
            )
            for kind, after, target, head, machine in shapes
        ]
        rest = [events[place] for place in order]
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            await tracked.events.write(rest[:size])
            rest = rest[size:]
        seen.append(
            (await tracked.classes(events), await tracked.counts(sent), await tracked.firsts(sent))
        )
        await tracked.assert_true()
    assert seen[0] == seen[1]
    assert seen[0][0] == _expected(shapes)


def _expected(shapes: list[tuple[EventKind, float, int, bool, bool]]) -> list[str]:
    """Classes as the rules say them, one event against all others."""
    classes = []
    for at, (kind, after, target, head, machine) in enumerate(shapes):
        others = [
            (o_after, o_target, o_head)
            for place, (o_kind, o_after, o_target, o_head, _) in enumerate(shapes)
            if place != at and o_kind is kind
        ]
        scanned = any(
            abs(o_after - after) <= MOMENT
            and (
                (kind is CLICK and o_target != target)
                or (o_head and o_after <= after and (kind is OPEN or o_target == target))
            )
            for o_after, o_target, o_head in others
        )
        classes.append("scanner*" if head or machine or scanned else "human")
    return classes
