"""When cron patterns are due: as Node's cron-parser says, with clock changes, zones and errors."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from campaign_worker.errors import SettingsError
from campaign_worker.queue.cron import parse
from campaign_worker.queue.occurrences import next_due_ms, zone_offset
from tests.fixtures.node import NodeBullMQ

pytestmark = pytest.mark.node

NODE = """
const { cases, zone } = JSON.parse(process.env.INPUT);
if (zone) process.env.TZ = zone;
const { CronExpressionParser } = require("cron-parser");
console.log(JSON.stringify(cases.map(([pattern, tz, after, hashSeed]) => {
  try {
    const options = { tz: tz ?? undefined, currentDate: new Date(after), hashSeed };
    return CronExpressionParser.parse(pattern, options).next().getTime();
  } catch { return null; }
})));
"""
OURS = """
import json, sys
from campaign_worker.queue.cron import parse
from campaign_worker.queue.occurrences import next_due_ms, zone_offset
cases = json.load(sys.stdin)
print(json.dumps([next_due_ms(parse(p), ms, zone_offset(None)) for p, _, ms, _ in cases]))
"""
PATTERNS = [
    *("*/5 * * * *", "0 9 * * 1-5", "30 2 * * *", "0 0 2 * * *", "15 1 * * *", "0 0 L * *"),
    *("0 12 * * 5L", "0 12 * * 1#2", "0 0 13 * 5", "* * * * * *", "*/20 * * * * *", "@daily"),
    *("@hourly", "0 0 29 2 *", "0 */3 * * *", "0 0 1 jan,jul mon", "* 2 * * *", "*/30 1-3 * * *"),
    *("0 0 * * 7", "5 4 * * sun", "0 10-16/2 * * mon-fri", "0 0 ? * *", "0 0 31 2,4 *", "5 4"),
    *("0 0 31 2 1", "", "5", "1-5/2,9 * * * * 1", "0 0 * * fri#5", "0 0 15,L * 3L", "0 1 * * *"),
    *("0 0 * * 5-7", "0 0 * * 0-6/3", "0 0 12 1/7 * ?", "59 23 31 12 *", "30 1,3 * * *"),
    *("* 1-3 * * *", "7/3 * * * *", "0 0 28-31 * 6", "0 0 L 2 *", "0 3 * * *", "@weekends"),
]
WRONG = [
    *("0,7 * * * * * *", "61 * * * *", "a * * * *", "0 0 1-40 * *", "10-5 * * * *", "*/0 * * * *"),
    *("0 0 30 feb *", "0 0 * foo *", "1,1 * * * *", "0 0 L-3 * *", "0 0 1W * *", "0 0 * * L"),
    *("0 0 * * 0,7", "0 0 * * 1#6", "0 0 * * 1,2#2", "0 0 31 2 *", "@never", "/5 * * * *"),
    *("1- * * * *", "1,, * * * *", "1/2/3 * * * *", "-1 * * * *", "* * * * * " + "*" * 1100),
]
HASHED = ["H H * * *", "H/15 * * * *", "H H(9-16)/3 * * 1-5", "H(0-29)/10 H H * *", "H H H * * H"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC+2", "utc-03:30"]
#: Three days about a clock change in Europe and the USA, and quiet ones; epoch milliseconds.
ABOUT = [1774742400000, 1773000000000, 1792800000000, 1793500000000, 1709164800000]
#: The clock changes of 2026, by zone, and minutes before and after them.
CHANGES = {
    "Europe/Berlin": (1774746000000, 1792890000000),
    "America/New_York": (1772953200000, 1793512800000),
}
NEARBY = (-100, -50, -35, -20, -1, 65)
AT_NIGHT = [
    *("30 2 * * *", "15 1 * * *", "* 2 * * *", "30 1,3 * * *", "*/30 1-3 * * *", "0 */2 * * *"),
    *("@hourly", "45 * * * *", "0 3 * * *"),
]
DAYS_MS = 3 * 86_400_000


def ours(pattern: str, zone: str | None, after_ms: int, seed: str | None) -> int | None:
    try:
        return next_due_ms(parse(pattern, seed), after_ms, zone_offset(zone))
    except SettingsError:
        return None


async def test_patterns_are_due_when_node_says(
    node_bullmq: Callable[[int], NodeBullMQ],
) -> None:
    chance = random.Random(20_261_122)  # noqa: S311 - the same cases each time

    def moment() -> int:
        step = chance.choice([1, 1000, 60_000, 1_800_000])
        return chance.choice(ABOUT) + chance.randrange(DAYS_MS) // step * step

    cases: list[tuple[str, str | None, int, str | None]] = [
        (pattern, zone, moment(), None) for pattern in PATTERNS for zone in ZONES
    ]
    cases += [(pattern, "UTC", moment(), None) for pattern in WRONG]
    cases += [("0 9 * * *", zone, moment(), None) for zone in ("Nope/Zone", "UTC+x", "..")]
    cases += [(pattern, "UTC", moment(), f"größe {n}") for pattern in HASHED for n in range(4)]
    cases += [
        (pattern, zone, change + minutes * 60_000, None)
        for zone, changes in CHANGES.items()
        for change in changes
        for minutes in NEARBY
        for pattern in AT_NIGHT
    ]
    [by_node] = await node_bullmq(6).run(NODE, {"cases": cases})
    by_us = [ours(*case) for case in cases]
    different = [each for each in zip(cases, by_node, by_us, strict=True) if each[1] != each[2]]
    assert not different, different
    assert by_us.count(None) < len(cases) / 5


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
async def test_without_a_zone_that_of_the_process_counts(
    node_bullmq: Callable[[int], NodeBullMQ], zone: str
) -> None:
    cases: list[Any] = [
        (pattern, None, about + day * 86_400_000, None)
        for pattern in ("0 9 * * *", "30 2 * * *", "15 1 * * *", "@hourly")
        for about in ABOUT
        for day in range(3)
    ]
    [by_node] = await node_bullmq(6).run(NODE, {"cases": cases, "zone": zone})
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", OURS],
        env={**os.environ, "TZ": zone},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(json.dumps(cases).encode())
    assert json.loads(said) == by_node


def test_what_is_left_to_chance_differs_from_time_to_time() -> None:
    assert len({parse("H H H * * *") for _ in range(20)}) > 1
