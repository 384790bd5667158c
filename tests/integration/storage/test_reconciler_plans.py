"""What the reconciler asks every half minute is answered by indexes, however much waits."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from campaign_worker.delivery.revival import BEGINNING
from tests.integration.storage.kit import World

ROWS = 30_000

# Arguments that each statement gets at a tick.
STATEMENTS: dict[str, list[Any]] = {
    "due_rows": [120.0, BEGINNING.due_at, 0, 1000],
    "jobless_rows": [5.0, 120.0, 1000],
    "resumed_rows": [1, 0, 1000],
    "resolve_expired": [60.0, 5000, 5],
    "complete_campaigns": [],
}


async def fill(world: World, rows: int) -> None:
    """Make three campaigns: one with due rows, one that is paused, one whose rows are due later."""
    for status, due in (("running", "-1 hour"), ("paused", "-2 hours"), ("running", "1 week")):
        campaign = await world.campaign(0, status=status)
        await world.execute(
            "INSERT INTO $recipients (campaign_id, email)"
            " SELECT $1, n || '@example.com' FROM generate_series(1, $2::int) n",
            *(campaign.id, rows // 3),
        )
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id, due_at, queue)"
            " SELECT campaign_id, id, now() + $2::text::interval, 'campaign' FROM $recipients"
            " WHERE campaign_id = $1 ORDER BY id",
            *(campaign.id, due),
        )
    for table in ("messages", "recipients", "campaigns"):
        await world.execute(f"VACUUM ANALYZE ${table}")


@pytest.fixture
async def full(world: World) -> World:
    await fill(world, ROWS)
    return world


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_no_statement_of_a_tick_reads_all_messages(full: World, statement: str) -> None:
    arguments = STATEMENTS[statement]
    async with full.database.transaction() as connection:
        text = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON, ANALYZE) {full.database.sql[statement]}", *arguments
        )
    plan = json.loads(text)[0]["Plan"]
    big = ("messages", "recipients")
    scans = [node["Node Type"] for node in nodes(plan) if node.get("Relation Name") in big]
    assert scans
    assert "Seq Scan" not in scans


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def test_the_walk_passes_over_paused_campaigns_and_stops_at_what_is_due(
    full: World,
) -> None:
    recovery = full.recovery(overdue_seconds=120.0)
    after, met = BEGINNING, 0
    while rows := await recovery.due_rows(after, 1000, every=False):
        after, met = rows[-1].cursor, met + len(rows)
    assert met == ROWS // 3


async def test_a_look_at_five_thousand_of_many_rows_is_quick(full: World) -> None:
    recovery = full.recovery(overdue_seconds=120.0)
    began_at = time.monotonic()
    await recovery.resolve_expired()
    await recovery.jobless_rows(1000)
    after = BEGINNING
    for _ in range(5):
        after = (await recovery.due_rows(after, 1000, every=False))[-1].cursor
    await recovery.resumed_campaigns()
    await recovery.complete_campaigns()
    assert time.monotonic() - began_at < 1
