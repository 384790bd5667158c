"""The measurements: what a tracker can take, what it costs, how long a reader waits."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.track.contenders import Contender, Paths, Tracker, started
from bench.track.load import Load, LoadSpec
from bench.track.stand import Stand

_GOOD = {"200", "302"}
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.05

Say = Callable[[str], None]
Step = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """Do nothing, in place of a step."""


class RunFailed(Exception):
    """Answers were wrong or missing, or rows do not say what was answered."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. `warm_seconds` pass before anything is counted."""

    messages: int
    connections: int
    warm_seconds: float
    seconds: float
    runs: int
    seed: int


@dataclass(frozen=True, slots=True)
class Cost:
    """One run, or the medians of several.

    CPU is that of the tracker and of Postgres together, at full load; `load_us_per_request` is the
    generator's own. Latencies are at half of `requests_per_s`.
    """

    requests_per_s: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float
    tracker_us_per_request: float
    postgres_us_per_request: float
    load_us_per_request: float
    p99_ms_postgres_stopped: float | None = None

    @classmethod
    def median(cls, runs: Sequence[Cost]) -> Cost:
        """Take the median of each figure by itself."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            values = [getattr(run, field.name) for run in runs]
            found[field.name] = None if None in values else statistics.median(values)
        return cls(**found)


async def measure(
    stand: Stand, contenders: Sequence[Contender], plan: Plan, folder: Path, say: Say
) -> dict[Contender, Cost]:
    """Run all in turn, so that whatever else the machine does meets each of them alike."""
    mailed = await stand.seed(plan.messages)
    written = {
        contender: Paths.write(contender, folder / f"{contender}.paths", mailed, plan.seed)
        for contender in contenders
    }
    seen: dict[Contender, list[Cost]] = {contender: [] for contender in contenders}
    for run in range(plan.runs):
        for contender in contenders:
            place = folder / f"{contender}-{run}"
            cost = await _run(stand, written[contender], plan, place)
            seen[contender].append(cost)
            say(f"run {run + 1}/{plan.runs}, {contender}: {_words(cost)}")
    return {contender: Cost.median(costs) for contender, costs in seen.items()}


async def _run(stand: Stand, paths: Paths, plan: Plan, place: Path) -> Cost:
    async with stand.database() as url, started(paths, stand, url, place) as tracker:
        try:
            return await _measured(_Asked(stand, url, tracker, paths, plan))
        except RunFailed as error:
            raise RunFailed(f"{paths.contender}: {error}\n{tracker.log_tail()}") from error


async def _measured(asked: _Asked) -> Cost:
    full, tracker_cpu, postgres_cpu = await asked.costly()
    await asked.until_rows_are_true()
    pace = full.counted / full.seconds
    half = await asked.load(rate=pace / 2)
    await asked.until_rows_are_true()
    stopped = None
    if asked.paths.contender is Contender.OURS:
        # Node's answers with errors then: there is nothing to time.
        postgres = asked.stand.postgres
        stopped = await asked.load(rate=pace / 2, at_begin=lambda: postgres.stop("immediate"))
        await postgres.start()
        await asked.until_rows_are_true()
    return Cost(
        requests_per_s=pace,
        cpu_us_per_request=(tracker_cpu + postgres_cpu) / full.counted * 1e6,
        p50_ms=half.p50_ms,
        p99_ms=half.p99_ms,
        tracker_us_per_request=tracker_cpu / full.counted * 1e6,
        postgres_us_per_request=postgres_cpu / full.counted * 1e6,
        load_us_per_request=full.cpu_seconds / full.counted * 1e6,
        p99_ms_postgres_stopped=None if stopped is None else stopped.p99_ms,
    )


class _Asked:
    """Puts loads on one tracker, and holds its answers against its rows."""

    def __init__(self, stand: Stand, url: str, tracker: Tracker, paths: Paths, plan: Plan) -> None:
        self.stand = stand
        self.paths = paths
        self._url = url
        self._tracker = tracker
        self._plan = plan
        # The clicks that showed that the tracker is up.
        self._sent = len(paths.clicks)

    async def costly(self) -> tuple[Load, float, float]:
        """Put the greatest load on it; CPU seconds of the tracker and of Postgres meanwhile."""
        seen: list[tuple[float, float]] = []

        async def look() -> None:
            seen.append((self._tracker.cpu_seconds(), self.stand.cpu_seconds()))

        load = await self.load(rate=None, at_begin=look, at_end=look)
        (tracker, postgres), (tracker_then, postgres_then) = seen
        return load, tracker_then - tracker, postgres_then - postgres

    async def load(
        self, *, rate: float | None, at_begin: Step = _nothing, at_end: Step = _nothing
    ) -> Load:
        """Put a load on it; RunFailed when an answer is wrong or does not come."""
        plan = self._plan
        spec = LoadSpec(
            port=self._tracker.port,
            paths=str(self.paths.file),
            connections=plan.connections,
            warm_seconds=plan.warm_seconds,
            seconds=plan.seconds,
            rate=rate,
            first=self._sent,
        )
        async with _generator(spec) as lines:
            await _line(lines)
            await at_begin()
            await _line(lines)
            await at_end()
            load = Load(**await _line(lines))
        if load.unanswered or set(load.statuses) - _GOOD:
            raise RunFailed(f"{load.unanswered} without an answer, the others: {load.statuses}")
        self._sent += load.sent
        return load

    async def until_rows_are_true(self) -> None:
        """Wait until there is a row for each answer; RunFailed when there is not, or one more."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (rows := await self.stand.rows(self._url)) < self._sent:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        if rows != self._sent:
            raise RunFailed(f"{self._sent} requests were answered, and there are {rows} rows")


@asynccontextmanager
async def _generator(spec: LoadSpec) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "bench.track.load"],
        env={**os.environ, "INPUT": json.dumps(dataclasses.asdict(spec))},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        if process.stdout is not None:
            yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(lines: asyncio.StreamReader) -> dict[str, Any]:
    line = await lines.readline()
    if not line:
        raise RunFailed("the load generator has ended")
    found: dict[str, Any] = json.loads(line)
    return found


def _words(cost: Cost) -> str:
    words = (
        f"{cost.requests_per_s:,.0f} requests/s, {cost.cpu_us_per_request:,.0f} us each"
        f" (tracker {cost.tracker_us_per_request:,.0f}, Postgres"
        f" {cost.postgres_us_per_request:,.0f}; generator {cost.load_us_per_request:,.0f}),"
        f" at half load p50 {cost.p50_ms:.1f} ms, p99 {cost.p99_ms:.1f} ms"
    )
    stopped = cost.p99_ms_postgres_stopped
    return words if stopped is None else f"{words}; Postgres stopped: p99 {stopped:.1f} ms"
