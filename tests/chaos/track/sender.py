"""Asks the replicas what was planned, and keeps a record of every attempt: when, and what came.

A request whose answer was lost is asked again, as a mail client would; the first may count or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from bench.track.wire import Answer, Connection
from tests.chaos.track.plan import Kind, Shot, Visit

ANSWER_SECONDS = 10.0
GIVE_UP_SECONDS = 60.0
BUSY = 2
BUSY_SECONDS = 0.5
_PAUSE_SECONDS = 0.05
_LOOK_SECONDS = 0.005


class Promise(enum.Enum):
    """What an attempt came to, as far as its row is concerned."""

    KEPT = "must have a row"
    OPEN = "may have a row: its answer was lost, or said that the event is not secured"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was sent: `began` and `ended` in epoch seconds enclose its row's time."""

    kind: Kind
    promise: Promise
    began: float
    ended: float


class Replica:
    """Kept connections to one replica: as many as are in use at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self._waiting: dict[Connection, asyncio.Future[Answer | None]] = {}
        self._busy = asyncio.Event()

    async def ask(self, request: bytes) -> Answer | None:
        """Ask once; None: the answer was lost. Raises OSError when nothing was sent."""
        connection = await self._connection()
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting[connection] = future
        connection.ask(request)
        if len(self._waiting) >= BUSY:
            self._busy.set()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await future
        except TimeoutError:
            connection.close()
            return None
        finally:
            del self._waiting[connection]
        if answer is not None:
            self._idle.append(connection)
        return answer

    async def busy(self) -> None:
        """Wait for a moment at which several requests are on their way; not for long."""
        self._busy.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUSY_SECONDS):
                await self._busy.wait()

    def close(self) -> None:
        """Drop what is idle."""
        for connection in self._idle:
            connection.close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        loop = asyncio.get_running_loop()
        _, fresh = await loop.create_connection(
            lambda: Connection(self._done), "127.0.0.1", self._port
        )
        return fresh

    def _done(self, connection: Connection, answer: Answer | None) -> None:
        future = self._waiting.get(connection)
        if future is not None and not future.done():
            future.set_result(answer)


class Sender:
    """Goes through the visits at a pace; `replicas` may change meanwhile."""

    def __init__(self, replicas: list[Replica], pace: float, seed: int) -> None:
        self.replicas = replicas
        self.attempts: list[Attempt] = []
        self.seconds: list[float] = []
        self.wrong: Counter[str] = Counter()
        self.unanswered = 0
        self.unsecured = 0
        self.limited = 0
        self.turned_away = 0
        self.done = 0
        self.late_seconds = 0.0
        self._pace = pace
        self._milestone = 0
        self._reached = asyncio.Event()
        self._dice = random.Random(seed)  # noqa: S311 - which replica, not a secret

    async def run(self, visits: Sequence[Visit], abreast: int) -> None:
        """Make all visits, so many at a time at most. Raises when nobody answers for a minute."""
        started = time.monotonic()
        due = iter((started + place / self._pace, visit) for place, visit in _placed(visits))

        async def walk() -> None:
            for moment, visit in due:
                await asyncio.sleep(max(0.0, moment - time.monotonic()))
                await self._visit(visit)

        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(abreast):
                    group.create_task(walk())
        finally:
            watch.cancel()

    async def reached(self, count: int) -> None:
        """Wait until so many requests are done."""
        self._milestone = count
        self._reached.clear()
        if self.done < count:
            await self._reached.wait()

    async def _watch(self) -> None:
        """Note the longest moment in which this process did not run: no answer is read in it."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_LOOK_SECONDS)
            late = time.perf_counter() - began - _LOOK_SECONDS
            self.late_seconds = max(self.late_seconds, late)

    async def _visit(self, visit: Visit) -> None:
        if visit.at_once:
            await asyncio.gather(*(self._shoot(shot) for shot in visit.shots))
        else:
            for shot in visit.shots:
                await self._shoot(shot)
        self.done += len(visit.shots)
        if self._milestone and self.done >= self._milestone:
            self._reached.set()

    async def _shoot(self, shot: Shot) -> None:
        """Ask until there is an answer that is one."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        first = self._dice.randrange(len(self.replicas))
        turn = 0
        while time.monotonic() < deadline:
            replica = self.replicas[(first + turn) % len(self.replicas)]
            turn += 1
            began, clock = time.time(), time.perf_counter()
            try:
                answer = await replica.ask(shot.request)
            except OSError:
                # Nothing was sent. When nobody listens at all, do not spin.
                await asyncio.sleep(_PAUSE_SECONDS if turn % len(self.replicas) == 0 else 0)
                continue
            if answer is not None:
                self.seconds.append(time.perf_counter() - clock)
            if self._settled(shot, answer, began):
                return
        raise RuntimeError(f"no replica has answered for {GIVE_UP_SECONDS:g} s")

    def _settled(self, shot: Shot, answer: Answer | None, began: float) -> bool:
        """Record the attempt; whether it was answered for good."""
        ended = time.time()
        if answer is None:
            self.unanswered += 1
            self._record(shot, Promise.OPEN, began, ended)
            return False
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.turned_away += 1
            # An unsubscribe that could not be secured may still come to be.
            self._record(shot, Promise.OPEN, began, ended)
            return False
        if (answer.status, answer.header("Location")) != (shot.status, shot.location):
            self.wrong[f"{answer.status} in place of {shot.status}"] += 1
        match answer.header("Tracking"):
            case None:
                self._record(shot, Promise.KEPT, began, ended)
            case "unsecured":
                self.unsecured += 1
                self._record(shot, Promise.OPEN, began, ended)
            case "limited":
                # Not noted: a row of it is one of nobody.
                self.limited += 1
            case other:
                self.wrong[f"Tracking: {other}"] += 1
        return True

    def _record(self, shot: Shot, promise: Promise, began: float, ended: float) -> None:
        if shot.kind is not None:
            self.attempts.append(Attempt(shot.kind, promise, began, ended))


def _placed(visits: Sequence[Visit]) -> list[tuple[int, Visit]]:
    """Give each visit the number of the request that it begins with."""
    found, place = [], 0
    for visit in visits:
        found.append((place, visit))
        place += len(visit.shots)
    return found
