"""Counts of a campaign are what its rows say, whoever changes the rows, in whatever order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_worker.delivery.settlements import FailReason, MarkFailed
from tests.integration.storage.kit import Seeded, World
from tests.integration.storage.test_state_machine import FIT, LEGAL

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENTS = [(kind, machine) for kind in ("open", "click", "unsubscribe") for machine in (False, True)]
STAMPS = ("bounced_at", "complained_at")
FIRSTS = ("first_opened_at", "first_clicked_at")
ROWS = 4

choices = st.lists(
    st.one_of(
        st.tuples(
            st.just("move"), st.sets(st.integers(0, 2 * ROWS - 1), min_size=1), st.booleans()
        ),
        st.tuples(st.just("stamp"), st.integers(0, 2 * ROWS - 1), st.sampled_from(STAMPS)),
        st.tuples(st.just("event"), st.integers(0, 2 * ROWS - 1), st.sampled_from(EVENTS)),
        st.tuples(
            st.just("found"),
            st.sets(st.integers(0, 2 * ROWS - 1), min_size=1),
            st.sampled_from(["open", "click", "unsubscribe"]),
        ),
        st.tuples(st.just("unsubscribe"), st.integers(0, 2 * ROWS - 1), st.booleans()),
    ),
    max_size=25,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(walk=choices, seed=st.integers(0, 1000))
async def test_counts_follow_rows_through_any_walk(
    world: World, walk: Sequence[tuple[Any, ...]], seed: int
) -> None:
    campaigns = [await world.campaign(ROWS), await world.campaign(ROWS)]
    rows = [await _rows_of(world, campaign) for campaign in campaigns]
    everything = [*rows[0], *rows[1]]
    picked = random.Random(seed)  # noqa: S311 - hypothesis gives the seed
    for step in walk:
        await _take(world, everything, step, picked)
    for campaign in campaigns:
        assert await world.counts(campaign) == await _recount(world, campaign)
    assert await world.campaigns.untrue_counts() == []


async def _rows_of(world: World, campaign: Seeded) -> list[int]:
    found = await world.rows(
        "INSERT INTO $messages (campaign_id, recipient_id) SELECT $1, unnest($2::bigint[])"
        " RETURNING id",
        campaign.id,
        list(campaign.recipients),
    )
    return [row["id"] for row in found]


async def _take(
    world: World, rows: list[int], step: tuple[Any, ...], picked: random.Random
) -> None:
    match step:
        case ("move", indexes, together):
            await _move(world, [rows[index] for index in indexes], picked, together=together)
        case ("stamp", index, column):
            await world.execute(
                f"UPDATE $messages SET {column} ="
                f" CASE WHEN {column} IS NULL THEN now() END WHERE id = $1",
                rows[index],
            )
        case ("event", index, (kind, machine)):
            await world.execute(
                "INSERT INTO $tracking_events (id, message_id, kind, class, machine)"
                " VALUES (gen_random_uuid(), $1, $2, 'human', $3)",
                rows[index],
                kind,
                machine,
            )
        case ("found", indexes, kind):
            await world.execute(
                "UPDATE $tracking_events SET class = 'scanner', machine = true"
                " WHERE message_id = ANY ($1::bigint[]) AND kind = $2 AND NOT machine",
                [rows[index] for index in indexes],
                kind,
            )
        case ("unsubscribe", index, there):
            await world.execute(
                "UPDATE $recipients r SET unsubscribed_at = CASE WHEN $2 THEN now() END"
                " FROM $messages m WHERE m.id = $1 AND r.id = m.recipient_id",
                rows[index],
                there,
            )
        case _:
            raise AssertionError(step)


async def _move(world: World, ids: list[int], picked: random.Random, *, together: bool) -> None:
    """Move rows to a state that may follow theirs; together: in one statement per state."""
    states = {row["id"]: row["state"] for row in await world.rows("SELECT * FROM $messages")}
    goals: dict[str, list[int]] = {}
    for row in ids:
        ways = [after for before, after in sorted(LEGAL) if before == states[row]]
        if ways:
            goals.setdefault(picked.choice(ways), []).append(row)
    for goal, group in goals.items():
        for part in [group] if together else [[row] for row in group]:
            await world.execute(
                f"UPDATE $messages SET state = '{goal}', {FIT[goal]} WHERE id = ANY ($1::bigint[])",
                part,
            )


async def _recount(world: World, campaign: Seeded) -> dict[str, int]:
    """Count in Python what SQL has counted."""
    rows = await world.rows("SELECT * FROM $messages WHERE campaign_id = $1", campaign.id)
    count: Counter[str] = Counter()
    for row in rows:
        if row["state"] not in ("scheduled", "sending"):
            count[row["state"]] += 1
        for column, name in zip(
            STAMPS + FIRSTS, ("bounced", "complained", "unique_open", "unique_click"), strict=True
        ):
            count[name] += row[column] is not None
    for event in await world.rows(
        "SELECT * FROM $tracking_events WHERE message_id = ANY ($1::bigint[])",
        [row["id"] for row in rows],
    ):
        if event["kind"] != "unsubscribe":
            count[("machine_" if event["machine"] else "") + event["kind"]] += 1
    count["unsubscribed"] = await world.value(
        "SELECT count(unsubscribed_at) FROM $recipients WHERE campaign_id = $1", campaign.id
    )
    return {name: number for name, number in count.items() if number}


async def test_a_wrong_count_is_found(world: World) -> None:
    campaign = await world.campaign()
    await world.sent(campaign.request())
    assert await world.campaigns.untrue_counts() == []
    await world.execute("UPDATE $campaign_counts SET sent_count = 7")
    (found,) = await world.campaigns.untrue_counts()
    assert (found["campaign_id"], found["sent_count"], found["sent"]) == (campaign.id, 7, 1)


async def test_counts_are_true_after_many_claims_and_settles_at_once(world: World) -> None:
    campaigns = [await world.campaign(20) for _ in range(3)]
    requests = [campaign.request(n) for campaign in campaigns for n in range(20)]
    await asyncio.gather(*(_send_or_bounce(world, n, one) for n, one in enumerate(requests)))
    for campaign in campaigns:
        assert sum((await world.counts(campaign)).values()) >= 20
    assert await world.campaigns.untrue_counts() == []


async def _send_or_bounce(world: World, number: int, request: Any) -> None:
    if number % 3:
        await world.sent(request)
        return
    claim = await world.claimed(request)
    bounced = MarkFailed(FailReason.HARD_BOUNCE, "550", attempt_spent=True, suppress=("x@y.zz",))
    await world.settle(claim, bounced)
