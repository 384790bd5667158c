"""What the figures are to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.queue.contenders import Contender
from bench.queue.latency import Latency
from bench.queue.measure import Idle, Memory, Results

#: By concurrency: jobs/s of ours, at least this many times Node's.
PACE_OF_NODE = {1: 1.2, 50: 1.0, 200: 1.0}
#: By concurrency: jobs/s of ours, at least this many times those of the package's Worker.
PACE_OF_PACKAGE = {50: 8.0}
#: By concurrency: CPU per job of ours, at most this share of Node's.
CPU_OF_NODE = {50: 0.5, 200: 0.5}
REDIS_OF_NODE = 1.0
IDLE_COMMANDS_PER_S = 5.0
IDLE_CPU_PERCENT = 0.5
MEMORY_GROWTH = 0.05
#: Milliseconds: the median of what is picked up, the longest of the others.
PICK_UP_MS = 5.0
DUE_MS = 50.0
HAND_BACK_MS = 100.0


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its bound; `at_least` tells which side is good."""

    what: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the figure is on the good side of its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def of_throughput(results: Results) -> Iterator[Target]:
    """Compare ours with whoever else was measured."""
    ours = results.get(Contender.OURS, {})
    node, package = results.get(Contender.NODE, {}), results.get(Contender.PACKAGE, {})
    for concurrency, cost in ours.items():
        at = f"at {concurrency}"
        other = node.get(concurrency)
        if other is not None and (bound := PACE_OF_NODE.get(concurrency)) is not None:
            ratio = cost.jobs_per_s / other.jobs_per_s
            yield Target(f"jobs/s {at}, times Node's", ratio, bound, at_least=True)
        if other is not None and (bound := CPU_OF_NODE.get(concurrency)) is not None:
            ratio = cost.cpu_us_per_job / other.cpu_us_per_job
            yield Target(f"CPU per job {at}, times Node's", ratio, bound, at_least=False)
        if other is not None:
            ratio = cost.redis_us_per_job / other.redis_us_per_job
            yield Target(f"Redis CPU {at}, times Node's", ratio, REDIS_OF_NODE, at_least=False)
        other = package.get(concurrency)
        if other is not None and (bound := PACE_OF_PACKAGE.get(concurrency)) is not None:
            ratio = cost.jobs_per_s / other.jobs_per_s
            yield Target(f"jobs/s {at}, times the package's", ratio, bound, at_least=True)


def of_idle(idle: Idle) -> Iterator[Target]:
    """Judge an idle worker."""
    yield Target("idle: commands/s", idle.commands_per_s, IDLE_COMMANDS_PER_S, at_least=False)
    yield Target("idle: CPU in %", idle.cpu_percent, IDLE_CPU_PERCENT, at_least=False)


def of_memory(memory: Memory) -> Iterator[Target]:
    """Judge the memory with many waiting jobs; less of it is as good as the same."""
    yield Target("memory: growth in %", 100 * memory.growth, 100 * MEMORY_GROWTH, at_least=False)


def of_latencies(latencies: Mapping[str, Latency]) -> Iterator[Target]:
    """Judge how soon an idle worker has a job."""
    for what, latency in latencies.items():
        match what:
            case "pick_up":
                value, bound = latency.median_ms, PICK_UP_MS
            case "due":
                value, bound = latency.longest_ms, DUE_MS
            case _:
                value, bound = latency.longest_ms, HAND_BACK_MS
        yield Target(f"{what}: ms", value, bound, at_least=False)
