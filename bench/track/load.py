"""The load generator: `python -m bench.track.load`, a process of its own, told by INPUT.

Without a rate it keeps every connection busy; with one it asks at that pace whether answers come or
not, and times each answer from the moment at which its question was due (so a tracker that stands
still is charged for all who would have come meanwhile). Writes three lines of JSON: when
it begins to count, when it has counted, and what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from bench.track.visitors import AGENTS, address
from bench.track.wire import Answer, Connection, request_bytes

_TICK_SECONDS = 0.001
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What a load is: `paths` names a file with one path a line; `rate` in requests/s."""

    port: int
    paths: str
    connections: int
    warm_seconds: float
    seconds: float
    rate: float | None = None
    first: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it.

    `sent`, `answered`, `statuses` and `unanswered` are of all questions; `counted` is the number of
    answers in the counted time of `seconds`. Latencies are of the questions that began in it, and
    `cpu_seconds` is what the generator itself took of it.
    """

    sent: int
    answered: int
    counted: int
    statuses: dict[str, int]
    unanswered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_seconds: float


class Generator:
    """Asks over a fixed number of connections; one `run` each."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._paths = Path(spec.paths).read_text().split()
        self._next = spec.first
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._began: dict[Connection, float] = {}
        self._latencies: list[float] = []
        self._counted = 0
        self._statuses: Counter[str] = Counter()
        self._unanswered = 0
        self._window = (math.inf, math.inf)
        self._over = False
        self._all_answered = asyncio.Event()
        self._dialing: set[asyncio.Task[None]] = set()

    async def run(self) -> Load:
        """Warm up, count, and wait a while for the answers that are still due."""
        spec = self._spec
        for _ in range(spec.connections):
            await self._dial()
        pace = asyncio.create_task(self._pace()) if spec.rate else None
        if pace is None:
            self._use_idle()
        await asyncio.sleep(spec.warm_seconds)
        began, cpu = time.perf_counter(), time.process_time()
        self._window = (began, began + spec.seconds)
        _say({"began": True})
        await asyncio.sleep(spec.seconds)
        counted, seconds = self._counted, time.perf_counter() - began
        cpu = time.process_time() - cpu
        _say({"over": True})
        self._over = True
        if pace is not None:
            await pace
        self._look_for_the_end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._all_answered.wait()
        return self._result(counted, seconds, cpu)

    def _result(self, counted: int, seconds: float, cpu: float) -> Load:
        for connection in (*self._began, *self._idle):
            connection.close()
        times = sorted(self._latencies) or [0.0]
        return Load(
            sent=self._next - self._spec.first,
            answered=self._statuses.total(),
            counted=counted,
            statuses=dict(self._statuses),
            unanswered=self._unanswered + len(self._began),
            seconds=seconds,
            p50_ms=1000 * times[len(times) // 2],
            p99_ms=1000 * times[len(times) * 99 // 100],
            longest_ms=1000 * times[-1],
            cpu_seconds=cpu,
        )

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._done), "127.0.0.1", self._spec.port
        )
        self._idle.append(connection)

    async def _pace(self) -> None:
        """Let questions fall due, evenly."""
        step = 1 / (self._spec.rate or 1)
        due = time.perf_counter()
        while not self._over:
            now = time.perf_counter()
            while due <= now:
                self._due.append(due)
                due += step
            self._use_idle()
            await asyncio.sleep(_TICK_SECONDS)

    def _use_idle(self) -> None:
        if self._spec.rate is None:
            while self._idle and not self._over:
                self._ask(self._idle.popleft(), time.perf_counter())
        else:
            while self._idle and self._due:
                self._ask(self._idle.popleft(), self._due.popleft())

    def _ask(self, connection: Connection, began: float) -> None:
        number = self._next
        self._next += 1
        self._began[connection] = began
        connection.ask(
            request_bytes(
                "GET",
                self._paths[number % len(self._paths)],
                {"User-Agent": AGENTS[number % len(AGENTS)], "X-Forwarded-For": address(number)},
            )
        )

    def _done(self, connection: Connection, answer: Answer | None) -> None:
        began = self._began.pop(connection)
        if answer is None:
            self._unanswered += 1
        else:
            self._statuses[str(answer.status)] += 1
            now = time.perf_counter()
            self._counted += now >= self._window[0]
            if self._window[0] <= began < self._window[1]:
                self._latencies.append(now - began)
        if connection.lost or answer is None:
            dialing = asyncio.create_task(self._redial())
            self._dialing.add(dialing)
            dialing.add_done_callback(self._dialing.discard)
        else:
            self._idle.append(connection)
            self._use_idle()
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self._over and not self._began and not self._due:
            self._all_answered.set()

    async def _redial(self) -> None:
        while not self._over:
            try:
                await self._dial()
            except OSError:
                await asyncio.sleep(_TICK_SECONDS)
            else:
                self._use_idle()
                return


def _say(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


async def main() -> None:
    """Read INPUT and run."""
    _say(asdict(await Generator(LoadSpec(**json.loads(os.environ["INPUT"]))).run()))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
