"""Group commit of events, with a bound on how long a request waits for it.

Postgres first; after 40 ms a Redis stream, which may get what Postgres takes after all (ids make it
once); after 90 ms the request is answered anyway and its event kept in memory, and tried again.
Owns none of the connections, and decides nothing about an event.
"""

from __future__ import annotations

import asyncio
import operator
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from campaign_worker.errors import Away
from campaign_worker.tracking.batch import Batch
from campaign_worker.tracking.events import ALL_SECONDS, STORE_SECONDS, Secured, TrackingEvent
from campaign_worker.tracking.ports import EventStore, EventStream, Write
from metrics import Listener, TrackingAnswered, TrackingDropped
from shutdown import Deadline, end

log = structlog.get_logger(__name__)

_FLUSH_PAUSE_SECONDS = 0.05
_KIND_AND_VISITOR = operator.attrgetter("kind", "visitor")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a request waits, how much is written at once, and how much is kept in memory."""

    store_seconds: float = STORE_SECONDS
    answer_seconds: float = ALL_SECONDS
    retry_seconds: float = 0.25
    batch_events: int = 500
    kept_events: int = 20_000


class Recorder:
    """Secures events; `name` is for logs and metrics.

    Events of one turn of the loop, or that come while a batch is under way, share a statement.
    While the store is away nobody waits for it: events go to the stream at once.
    """

    def __init__(
        self,
        name: str,
        store: EventStore,
        stream: EventStream,
        listener: Listener,
        bounds: Bounds | None = None,
    ) -> None:
        self._name = name
        self._store = store
        self._stream = stream
        self._listener = listener
        self._bounds = bounds or Bounds()
        self._waiting: deque[Batch] = deque()
        self._unsettled: set[Batch] = set()
        self._flight: asyncio.Task[None] | None = None
        self._streaming: deque[Batch] = deque()
        self._put: asyncio.Task[None] | None = None
        self._kept: deque[TrackingEvent] = deque()
        self._in_hand = 0
        self._recovery: asyncio.Task[None] | None = None
        self._away = False
        self._closed = False

    @property
    def store_away(self) -> bool:
        """Whether the store was given up and has not answered since."""
        return self._away

    @property
    def kept(self) -> int:
        """Events that are in this process' memory only, their requests long answered."""
        return len(self._kept) + self._in_hand

    def record(self, event: TrackingEvent) -> asyncio.Future[Secured]:
        """Secure one event; the future says where it is, after 90 ms at most.

        It is that of the whole batch: whoever waits for it and may be cancelled shields it.
        """
        batch = self._collecting()
        batch.events.append(event)
        return batch.answered

    async def close(self, deadline: Deadline) -> None:
        """Secure what is not secured yet, within the deadline; the rest is counted as dropped.

        Nothing may be recorded any more.
        """
        try:
            await deadline.wait_for(self._flushed())
        except TimeoutError:
            log.warning("tracking", problem="the stop came before all was secured")
        self._closed = True
        await end(*filter(None, (self._recovery, self._flight, self._put)))
        left, self._unsettled = self._unsettled, set()
        for batch in left:
            self._answer(batch, Secured.UNSECURED)
        self._drop(len(self._kept) + sum(len(batch.events) for batch in left))
        self._kept.clear()

    def _collecting(self) -> Batch:
        if self._waiting and len(self._waiting[-1].events) < self._bounds.batch_events:
            return self._waiting[-1]
        loop = asyncio.get_running_loop()
        batch = Batch(loop.time(), loop.create_future())
        self._waiting.append(batch)
        self._unsettled.add(batch)
        batch.timer = loop.call_later(self._bounds.store_seconds, self._give_up, batch)
        # In the next turn of the loop: what comes in this one travels along.
        loop.call_soon(self._next)
        return batch

    def _next(self) -> None:
        """Send what waits: to the store one batch at a time, to the stream all at once."""
        while self._away and self._waiting:
            self._to_stream(self._waiting.popleft())
        if self._flight is None and self._waiting:
            self._flight = asyncio.create_task(self._to_store())

    async def _to_store(self) -> None:
        """Write one batch after the other, as long as there are any and the store takes them."""
        try:
            async with self._store.session() as write:
                while self._waiting and not self._away:
                    await self._write(write, self._waiting.popleft())
        finally:
            self._flight = None
        self._next()

    async def _write(self, write: Write, batch: Batch) -> None:
        batch.attempts += 1
        problem = await self._attempt(write, batch.events)
        if problem is None:
            self._store_is_back()
            # Its requests are answered in the next turn: after the next statement has left.
            self._secured(batch, Secured.POSTGRES)
            return
        self._store_is_away(problem)
        if not batch.streamed:
            self._to_stream(batch)
        self._lost(batch)

    def _give_up(self, batch: Batch) -> None:
        """Wait no longer for the store: neither this batch nor those behind it."""
        if batch in self._waiting:
            self._waiting.remove(batch)
        self._store_is_away("no answer in time")
        self._to_stream(batch)
        self._next()

    def _to_stream(self, batch: Batch) -> None:
        batch.streamed = True
        batch.attempts += 1
        if batch.timer is not None:
            batch.timer.cancel()
        at = batch.opened_at + self._bounds.answer_seconds
        batch.timer = asyncio.get_running_loop().call_at(at, self._answer, batch, Secured.UNSECURED)
        self._streaming.append(batch)
        if self._put is None:
            self._put = asyncio.create_task(self._put_all())

    async def _put_all(self) -> None:
        """Write to the stream one entry at a time; what waits behind one that fails fails too."""
        while self._streaming:
            batches = self._next_entry()
            events = [event for batch in batches for event in batch.events]
            problem = await self._attempt(self._stream.put, events)
            if problem is not None:
                batches.extend(self._streaming)
                self._streaming.clear()
            for batch in batches:
                if problem is None:
                    self._secured(batch, Secured.STREAM)
                else:
                    self._lost(batch)
        self._put = None

    def _next_entry(self) -> list[Batch]:
        batches = [self._streaming.popleft()]
        size = len(batches[0].events)
        while self._streaming and size < self._bounds.batch_events:
            size += len(self._streaming[0].events)
            batches.append(self._streaming.popleft())
        return batches

    def _secured(self, batch: Batch, how: Secured) -> None:
        batch.attempts -= 1
        if not batch.settled:
            batch.settled = True
            self._unsettled.discard(batch)
            self._answer(batch, how)

    def _lost(self, batch: Batch) -> None:
        """Note that one attempt failed; after the last one the events stay in memory."""
        batch.attempts -= 1
        if not batch.settled and not batch.attempts:
            batch.settled = True
            self._unsettled.discard(batch)
            self._keep(batch.events)
            self._answer(batch, Secured.UNSECURED)

    def _answer(self, batch: Batch, how: Secured) -> None:
        if batch.answer(how):
            waited_seconds = asyncio.get_running_loop().time() - batch.opened_at
            counts: Counter[tuple[str, str]] = Counter(map(_KIND_AND_VISITOR, batch.events))
            self._listener.on_event(TrackingAnswered(how.value, waited_seconds, counts))

    def _keep(self, events: Sequence[TrackingEvent]) -> None:
        self._kept.extend(events)
        over = max(0, self.kept - self._bounds.kept_events)
        for _ in range(over):
            self._kept.popleft()
        self._drop(over)
        self._recover()

    def _drop(self, count: int) -> None:
        if count:
            log.error("tracking events dropped", stream=self._name, count=count)
            self._listener.on_event(TrackingDropped(self._name, count))

    def _store_is_away(self, problem: str) -> None:
        if not self._away:
            log.warning("tracking", given_up="Postgres", stream=self._name, error=problem)
        self._away = True
        self._recover()

    def _store_is_back(self) -> None:
        if self._away:
            log.info("tracking", back="Postgres", stream=self._name)
        self._away = False

    def _recover(self) -> None:
        if not self._closed and (self._recovery is None or self._recovery.done()):
            self._recovery = asyncio.create_task(self._recovering(), name=f"recover {self._name}")

    async def _recovering(self) -> None:
        """Look for the store until it is back and nothing is left in memory."""
        while self._away or self._kept:
            await asyncio.sleep(self._bounds.retry_seconds)
            while self._kept and await self._secure_kept():
                pass
            # A batch that is still under way asks the store already.
            if self._away and self._flight is None:
                await self._to_kept_store([])

    async def _secure_kept(self) -> bool:
        """Try to secure a page of what is kept; whether it went well."""
        size = min(len(self._kept), self._bounds.batch_events)
        page = [self._kept.popleft() for _ in range(size)]
        self._in_hand += size
        secured = False
        try:
            if self._away:
                secured = await self._to_kept_stream(page) or await self._to_kept_store(page)
            else:
                secured = await self._to_kept_store(page) or await self._to_kept_stream(page)
        finally:
            self._in_hand -= size
            if not secured:
                self._kept.extendleft(reversed(page))
        return secured

    async def _to_kept_stream(self, page: Sequence[TrackingEvent]) -> bool:
        return await self._attempt(self._stream.put, page) is None

    async def _to_kept_store(self, page: Sequence[TrackingEvent]) -> bool:
        if await self._attempt(self._store.write, page) is not None:
            return False
        self._store_is_back()
        return True

    async def _attempt(self, write: Write, events: Sequence[TrackingEvent]) -> str | None:
        """Write; what went wrong, or None."""
        try:
            await write(events)
        except Away as error:
            return str(error)
        except Exception as error:
            # A fault of ours: the events are kept, as in any other.
            log.exception("tracking", stream=self._name)
            return type(error).__name__
        return None

    async def _flushed(self) -> None:
        while self._unsettled or self.kept:  # what is being tried just now would be cut off
            if self._kept and await self._secure_kept():
                continue
            await asyncio.sleep(_FLUSH_PAUSE_SECONDS)
