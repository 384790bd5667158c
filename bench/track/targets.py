"""What the figures are to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bench.track.contenders import Contender
from bench.track.measure import Cost

#: Times Node's.
PACE: Final = 2.0
CPU: Final = 0.4
#: Milliseconds that 99 of 100 may take.
HALF_LOAD_MS: Final = 20.0
STOPPED_MS: Final = 100.0


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its bound; `at_least` tells which side is good."""

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is on the good side of its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def of(costs: Mapping[Contender, Cost]) -> Iterator[Target]:
    """Judge ours, beside Node's where that was measured."""
    ours, node = costs.get(Contender.OURS), costs.get(Contender.NODE)
    if ours is None:
        return
    if node is not None:
        pace = ours.requests_per_s / node.requests_per_s
        cpu = ours.cpu_us_per_request / node.cpu_us_per_request
        yield Target("requests/s, times Node's", pace, PACE, at_least=True)
        yield Target("CPU per request, times Node's", cpu, CPU)
    yield Target("p99 at half load, ms", ours.p99_ms, HALF_LOAD_MS)
    if ours.p99_ms_postgres_stopped is not None:
        yield Target("p99 without Postgres, ms", ours.p99_ms_postgres_stopped, STOPPED_MS)
