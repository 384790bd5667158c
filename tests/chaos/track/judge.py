"""Holds rows and counts against what was sent and answered. Asks nothing of ours how it decides.

Every row must be that of one attempt, at a time between its question and the end of it; every
attempt that was answered and promised must have its row. Classes follow from who asked and, as the
rules on time say, from the other rows of the message; counts and first times follow from both.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from campaign_worker.tracking.classify import TIMING
from tests.chaos.track.plan import Class, Kind
from tests.chaos.track.sender import Attempt, Promise

MOMENT = timedelta(seconds=TIMING.scanner_window_seconds)
#: Times of rows are cut to microseconds.
GRAIN_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Row:
    """An event in Postgres."""

    kind: Kind
    seen_as: tuple[str, bool]
    at: datetime


@dataclass(frozen=True, slots=True)
class Books:
    """What Postgres says: events, first opens and clicks by message, counts by their names.

    `left`: recipients who have unsubscribed, by the message that they have. `untrue`: campaigns
    whose counts are not what their rows say.
    """

    rows: Sequence[Row]
    firsts: Mapping[int, tuple[datetime | None, datetime | None]]
    counts: Mapping[str, int]
    left: frozenset[int]
    untrue: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many are wrong. `invented`: rows of no request, and second rows of one."""

    lost: int
    invented: int
    misclassed: int
    miscounted: int


def judge(books: Books, attempts: Sequence[Attempt], seen_as: Mapping[Kind, Class]) -> Verdict:
    """Compare everything with everything."""
    lost, invented = _matched(books.rows, attempts)
    classes = [_class_of(row, rows, seen_as) for rows in _by_message(books.rows) for row in rows]
    rows = [row for rows in _by_message(books.rows) for row in rows]
    misclassed = sum(row.seen_as != seen for row, seen in zip(rows, classes, strict=True))
    return Verdict(lost, invented, misclassed, _miscounted(books, rows, classes))


def _matched(rows: Iterable[Row], attempts: Iterable[Attempt]) -> tuple[int, int]:
    """Count attempts without the row that they must have, and rows without an attempt.

    Two matchings, each the greatest there is; then there is one that has both (Mendelsohn and
    Dulmage, 1958).
    """
    times: dict[Kind, list[float]] = defaultdict(list)
    for row in rows:
        times[row.kind].append(row.at.timestamp())
    asked: dict[Kind, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        asked[attempt.kind].append(attempt)
    lost = invented = 0
    for kind in times.keys() | asked.keys():
        spans = [(one.began - GRAIN_SECONDS, one.ended + GRAIN_SECONDS) for one in asked[kind]]
        must = [
            span
            for one, span in zip(asked[kind], spans, strict=True)
            if one.promise is Promise.KEPT
        ]
        lost += unmatched(must, times[kind])[0]
        invented += unmatched(spans, times[kind])[1]
    return lost, invented


def unmatched(spans: Sequence[tuple[float, float]], points: Sequence[float]) -> tuple[int, int]:
    """Give each point to one span that holds it; how many spans and points are left at least.

    The span that ends first goes first, which no other choice betters.
    """
    waiting = sorted(spans, reverse=True)
    running: list[float] = []
    matched = 0
    for point in sorted(points):
        while waiting and waiting[-1][0] <= point:
            heapq.heappush(running, waiting.pop()[1])
        while running and running[0] < point:
            heapq.heappop(running)
        if running:
            heapq.heappop(running)
            matched += 1
    return len(spans) - matched, len(points) - matched


def _by_message(rows: Iterable[Row]) -> list[list[Row]]:
    found: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.kind.message, row.kind.kind].append(row)
    return list(found.values())


def _class_of(row: Row, rows: Sequence[Row], seen_as: Mapping[Kind, Class]) -> tuple[str, bool]:
    """Say what a row is: by who asked, and by the rows of the same message and kind."""
    base = seen_as.get(row.kind, Class.SCANNER)
    if base.value[1] or row.kind.kind == "unsubscribe":
        return base.value
    near = [one for one in rows if one is not row and abs(one.at - row.at) <= MOMENT]
    several = any(row.kind.kind == "click" and one.kind.link != row.kind.link for one in near)
    looked_at = any(
        one.kind.head and one.kind.link == row.kind.link and one.at <= row.at for one in near
    )
    return Class.SCANNER.value if several or looked_at else base.value


def _miscounted(books: Books, rows: Sequence[Row], classes: Sequence[tuple[str, bool]]) -> int:
    """Say by how much counts, first times and unsubscribes are not what rows and classes give."""
    names: Counter[str] = Counter()
    opened: dict[int, datetime] = {}
    clicked: dict[int, datetime] = {}
    left = set()
    for row, (_, machine) in zip(rows, classes, strict=True):
        message = row.kind.message
        if row.kind.kind == "unsubscribe":
            left.add(message)
            continue
        names[f"{'machine_' if machine else ''}{row.kind.kind}_count"] += 1
        if not machine:
            opened[message] = min(row.at, opened.get(message, row.at))
            if row.kind.kind == "click":
                clicked[message] = min(row.at, clicked.get(message, row.at))
    names["unique_open_count"], names["unique_click_count"] = len(opened), len(clicked)
    names["unsubscribed_count"] = len(left)
    drift = sum(abs(books.counts[name] - count) for name, count in _full(names).items())
    late = sum(
        books.firsts[message] != (opened.get(message), clicked.get(message))
        for message in books.firsts
    )
    return drift + late + len(left ^ books.left) + books.untrue


COUNTS = (
    *("open_count", "machine_open_count", "unique_open_count"),
    *("click_count", "machine_click_count", "unique_click_count"),
    "unsubscribed_count",
)


def _full(names: Mapping[str, int]) -> dict[str, int]:
    return {name: names.get(name, 0) for name in COUNTS}


def row_of(record: Mapping[str, Any]) -> Row:
    """Read a row of tracking_events."""
    kind = Kind(
        record["message_id"],
        record["kind"],
        record["link_id"],
        head=record["head"],
        agent=record["user_agent"],
    )
    return Row(kind, (record["class"], record["machine"]), record["occurred_at"])
