"""The short form of `make chaos-track`, and what its judge finds when something is wrong."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.track.fleet import Plan
from tests.chaos.track.judge import COUNTS, Books, Row, Verdict, judge, unmatched
from tests.chaos.track.plan import Class, Kind, Planner
from tests.chaos.track.run import Result, run
from tests.chaos.track.sender import Attempt, Promise
from tests.fixtures.mailed import Mailed

ROOT = Path(__file__).parents[2]
TROUBLES = ("lost", "invented", "misclassed", "miscounted", "misled", "left_in_redis")
MAILED = Mailed((1,), tuple(range(1, 50)), {1: "https://a.example/1", 2: "https://a.example/2"})


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_3000_requests_are_counted_exactly_beside_a_stop_of_postgres_and_kills() -> None:
    options = ["--requests", "3000", "--pace", "400", "--stop-seconds", "1.5", "--kills", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.track", *options, "--seed", "31"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    figures = json.loads(line)
    assert [figures[trouble] for trouble in TROUBLES] == [0] * len(TROUBLES)
    assert (figures["requests"], figures["kills"]) == (3000, 3)
    assert figures["rows"] > 2500
    assert figures["limited"] >= 20


def test_a_seed_fixes_what_is_asked_and_as_many_as_are_wanted() -> None:
    visits = Planner(MAILED, 5).visits(1000)
    assert sum(len(visit.shots) for visit in visits) == 1000
    assert visits == Planner(MAILED, 5).visits(1000)
    assert visits != Planner(MAILED, 6).visits(1000)
    forged = [shot for visit in visits for shot in visit.shots if shot.status == 404]
    assert len(forged) > 50
    assert all(shot.kind is None for shot in forged)


START = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = Kind(1, "open", None, head=False, agent="a person's")
CLICK = Kind(2, "click", 7, head=False, agent="a person's")
OTHER = Kind(2, "click", 8, head=False, agent="a person's")
HEAD = Kind(3, "click", 7, head=True, agent="a person's")
GET = Kind(3, "click", 7, head=False, agent="a person's")
LEAVE = Kind(4, "unsubscribe", None, head=False, agent="Gmail Actions")
SEEN_AS = {
    **dict.fromkeys((OPEN, CLICK, OTHER, GET, LEAVE), Class.HUMAN),
    HEAD: Class.SCANNER,
}
#: In seconds: a person opens twice and clicks; a scanner clicks two links; HEAD, then GET.
ASKED = ((OPEN, 0), (OPEN, 9), (CLICK, 20), (CLICK, 40), (OTHER, 40.5), (HEAD, 60), (GET, 61))
SCANNED = (40, 40.5, 60, 61)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(kind: Kind, seconds: float, promise: Promise = Promise.KEPT) -> Attempt:
    return Attempt(kind, promise, at(seconds - 0.1).timestamp(), at(seconds + 0.1).timestamp())


def row(kind: Kind, seconds: float) -> Row:
    seen_as = Class.SCANNER if seconds in SCANNED else Class.HUMAN
    return Row(kind, seen_as.value, at(seconds))


ATTEMPTS = [*(attempt(kind, seconds) for kind, seconds in ASKED), attempt(LEAVE, 80)]
TRUE = Books(
    rows=[*(row(kind, seconds) for kind, seconds in ASKED), row(LEAVE, 80)],
    firsts={1: (at(0), None), 2: (at(20), at(20)), 3: (None, None), 4: (None, None)},
    counts=dict(zip(COUNTS, (2, 0, 2, 1, 4, 1, 1), strict=True)),
    left=frozenset({4}),
    untrue=0,
)
NOTHING_WRONG = Verdict(0, 0, 0, 0)


def test_books_that_are_true_are_found_true() -> None:
    assert judge(TRUE, ATTEMPTS, SEEN_AS) == NOTHING_WRONG


@pytest.mark.parametrize("place", range(len(ATTEMPTS)))
def test_a_row_that_is_missing_is_lost_and_one_that_is_there_twice_is_invented(place: int) -> None:
    rows = list(TRUE.rows)
    one = rows.pop(place)
    assert judge(dataclasses.replace(TRUE, rows=rows), ATTEMPTS, SEEN_AS).lost == 1
    twice = [*rows, one, one]
    assert judge(dataclasses.replace(TRUE, rows=twice), ATTEMPTS, SEEN_AS).invented == 1


def test_what_was_not_promised_may_be_there_or_not_but_not_twice() -> None:
    attempts = [*ATTEMPTS, attempt(OPEN, 90, Promise.OPEN)]
    assert judge(TRUE, attempts, SEEN_AS) == NOTHING_WRONG
    once = dataclasses.replace(
        TRUE, rows=[*TRUE.rows, row(OPEN, 90)], counts={**TRUE.counts, "open_count": 3}
    )
    assert judge(once, attempts, SEEN_AS) == NOTHING_WRONG
    twice = dataclasses.replace(once, rows=[*once.rows, row(OPEN, 90.01)])
    assert judge(twice, attempts, SEEN_AS).invented == 1


def test_a_row_outside_of_the_time_of_its_request_is_another() -> None:
    rows = [row(OPEN, 0.5), *TRUE.rows[1:]]
    verdict = judge(dataclasses.replace(TRUE, rows=rows), ATTEMPTS, SEEN_AS)
    assert (verdict.lost, verdict.invented) == (1, 1)


@pytest.mark.parametrize("place", range(len(ATTEMPTS)))
def test_a_wrong_class_is_found(place: int) -> None:
    rows = list(TRUE.rows)
    rows[place] = dataclasses.replace(rows[place], seen_as=Class.PREFETCH.value)
    assert judge(dataclasses.replace(TRUE, rows=rows), ATTEMPTS, SEEN_AS).misclassed == 1


WRONG: dict[str, dict[str, Any]] = {
    **{name: {"counts": {**TRUE.counts, name: TRUE.counts[name] + 1}} for name in COUNTS},
    "first open": {"firsts": {**TRUE.firsts, 1: (at(9), None)}},
    "first click": {"firsts": {**TRUE.firsts, 2: (at(20), at(40))}},
    "somebody has not left": {"left": frozenset()},
    "somebody has left": {"left": frozenset({4, 5})},
    "counts are not those of the rows": {"untrue": 1},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_count_or_time_is_found(what: str) -> None:
    books = dataclasses.replace(TRUE, **WRONG[what])
    assert judge(books, ATTEMPTS, SEEN_AS).miscounted == 1


spans = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted), max_size=4)


@given(spans=spans, points=st.lists(st.integers(0, 6), max_size=4))
def test_no_other_choice_matches_more(spans: list[list[int]], points: list[int]) -> None:
    given_spans = [(float(begin), float(end)) for begin, end in spans]
    size = min(len(spans), len(points))
    best = max(
        sum(begin <= point <= end for (begin, end), point in zip(chosen, order, strict=True))
        for chosen in itertools.combinations(given_spans, size)
        for order in itertools.permutations(points, size)
    )
    left = unmatched(given_spans, [float(point) for point in points])
    assert left == (len(spans) - best, len(points) - best)


def test_a_run_fails_for_each_trouble_without_its_kills_and_without_a_limit() -> None:
    good = Result(
        lost=0, invented=0, misclassed=0, miscounted=0, misled=0, left_in_redis=0,
        requests=100, rows=90, unsecured=5, limited=40, unanswered=5, turned_away=5,
        kills=3, planned_kills=3, stopped_seconds=10.0,
        p50_ms=1.0, p99_ms=2.0, longest_ms=3.0, over_100_ms=0, sender_late_ms=4.0,
    )  # fmt: skip
    assert good.faults() == []
    for trouble in ({name: 1} for name in TROUBLES):
        assert len(dataclasses.replace(good, **trouble).faults()) == 1
    assert len(dataclasses.replace(good, kills=2).faults()) == 1
    assert len(dataclasses.replace(good, limited=0).faults()) == 1


# Two trackers at fault: one answers before any store has an event, one does not say that none has.
HASTY = """
import asyncio
import campaign_worker.tracking_parts as parts
from campaign_worker.tracking.events import Secured
from campaign_worker.tracking.recorder import Recorder
class Hasty(Recorder):
    def record(self, event):
        super().record(event)
        done = asyncio.get_running_loop().create_future()
        done.set_result(Secured.POSTGRES)
        return done
parts.Recorder = Hasty
"""
SILENT = """
import campaign_worker.tracking.answers as answers
answers._mark = lambda outcome: b""
"""


FROZEN_LONG = 41
"""A seed by which both stores are frozen for almost twice as long as an answer waits."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that Postgres can pass, which may run as another user."""
    with tempfile.TemporaryDirectory(prefix="chaos-track-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [HASTY, SILENT], ids=["hasty", "silent"])
async def test_a_tracker_that_promises_what_it_has_in_memory_only_is_found(
    folder: Path, fault: str
) -> None:
    plan = Plan(requests=1500, pace=800.0, stop_seconds=0.0, kills=1, seed=FROZEN_LONG)
    said: list[str] = []
    result = await run(plan, folder, said.append, fault)
    assert result.kills == 1
    assert result.lost > 0, said
    assert result.invented == result.left_in_redis == 0
