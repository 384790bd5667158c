"""The measurements: throughput and cost of no-op jobs, the cost of idling, memory."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

from bench.queue.contenders import Contender, WorkerProcess, WorkerSpec
from bench.queue.stand import QUEUE, Stand

IDLE_CONCURRENCY = 50
#: Start, script loading and the first claims are over by then.
IDLE_SETTLE_SECONDS = 5.0
IDLE_SECONDS = 10.0
FEW_WAITING = 1_000
MEMORY_COMPLETED = 500
MEMORY_PROCESS_MS = 250


@dataclass(frozen=True, slots=True)
class Cost:
    """One run, or the medians of several. CPU is user and system time, in microseconds."""

    jobs_per_s: float
    cpu_us_per_job: float
    redis_us_per_job: float

    @classmethod
    def median(cls, runs: Sequence[Self]) -> Self:
        """Take the median of each figure by itself."""
        return cls(
            *(statistics.median(getattr(run, each.name) for run in runs) for each in fields(cls))
        )


@dataclass(frozen=True, slots=True)
class Idle:
    """An idle worker: what it asks of Redis, and its share of one CPU."""

    commands_per_s: float
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory after the same work, with few and with many jobs still waiting."""

    waiting: int
    few_bytes: int
    many_bytes: int

    @property
    def growth(self) -> float:
        """How much more it is with many: 0.05 is five per cent."""
        return (self.many_bytes - self.few_bytes) / self.few_bytes


Results = dict[Contender, dict[int, Cost]]


async def throughput(
    stand: Stand,
    *,
    contenders: Sequence[Contender],
    concurrencies: Sequence[int],
    jobs: int,
    runs: int,
    say: Callable[[str], None],
) -> Results:
    """Run all in turn, so that whatever else the machine does meets each of them alike."""
    results: Results = {contender: {} for contender in contenders}
    for concurrency in concurrencies:
        seen: dict[Contender, list[Cost]] = {contender: [] for contender in contenders}
        for run in range(runs):
            for contender in contenders:
                cost = await _run(stand, contender, concurrency, jobs)
                seen[contender].append(cost)
                say(
                    f"run {run + 1}/{runs}, concurrency {concurrency}, {contender}: "
                    f"{cost.jobs_per_s:,.0f} jobs/s, {cost.cpu_us_per_job:,.0f} us, "
                    f"Redis {cost.redis_us_per_job:,.0f} us"
                )
        for contender, costs in seen.items():
            results[contender][concurrency] = Cost.median(costs)
    return results


async def idle(stand: Stand) -> Idle:
    """Measure our worker on an empty queue."""
    await stand.clear()
    spec = WorkerSpec(stand.url, QUEUE, IDLE_CONCURRENCY)
    async with await WorkerProcess.start(Contender.OURS, spec) as worker:
        worker.go()
        await asyncio.sleep(IDLE_SETTLE_SECONDS)
        cpu, commands = worker.cpu_seconds(), await stand.commands()
        await asyncio.sleep(IDLE_SECONDS)
        worker.check()
        # The question itself is one command.
        commands = await stand.commands() - commands - 1
        cpu = worker.cpu_seconds() - cpu
    return Idle(commands / IDLE_SECONDS, 100 * cpu / IDLE_SECONDS)


async def memory(stand: Stand, waiting: int) -> Memory:
    """Compare our worker's memory with a thousand waiting jobs and with `waiting`."""
    few = await _resident(stand, FEW_WAITING)
    return Memory(waiting, few, await _resident(stand, waiting))


async def _run(stand: Stand, contender: Contender, concurrency: int, jobs: int) -> Cost:
    await stand.clear()
    await stand.add(jobs)
    spec = WorkerSpec(stand.url, QUEUE, concurrency)
    async with await WorkerProcess.start(contender, spec) as worker:
        redis_cpu, cpu = await stand.cpu_seconds(), worker.cpu_seconds()
        worker.go()
        await stand.until_completed(jobs, worker)
        cpu = worker.cpu_seconds() - cpu
        redis_cpu = await stand.cpu_seconds() - redis_cpu
        seconds = await stand.seconds_of_completions()
    # finishedOn counts whole milliseconds.
    pace = (jobs - 1) / max(seconds, 0.001)
    return Cost(pace, cpu / jobs * 1e6, redis_cpu / jobs * 1e6)


async def _resident(stand: Stand, waiting: int) -> int:
    """Return its memory after the first jobs, while the others still wait."""
    await stand.clear()
    await stand.add_in_bulk(waiting)
    spec = WorkerSpec(stand.url, QUEUE, IDLE_CONCURRENCY, process_ms=MEMORY_PROCESS_MS)
    async with await WorkerProcess.start(Contender.OURS, spec) as worker:
        worker.go()
        await stand.until_completed(MEMORY_COMPLETED, worker)
        return worker.rss_bytes()
