"""Group commit: what arrives while a batch is under way travels in the next one.

Owns the collecting, the repeating of lost races, and the halving that lets one bad item fail alone.
Knows neither SQL nor mail. Each answer goes to the one who asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from campaign_worker.errors import DatabaseAway, RowRefused
from campaign_worker.storage.faults import Fault, fault_of
from metrics import BatchFlushed, Listener

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_WEIGHT = 16_000_000
"""Bytes that travel together: a batch has to be through before its statements time out."""

_RACES = 8
"""A batch that loses this many serialization races in a row finds Postgres away."""


class Batcher(Generic[Item, Answer]):
    """Collects items and executes them together, one batch at a time; `name` is for the metrics.

    `execute` takes a batch and returns an answer per item, in order. It is repeated when the
    transaction lost a race, and once when the connection broke: repeating it must be safe. While
    Postgres is away every item is told so. After any other error the batch is halved until the item
    is found that it belongs to: a bad value is RowRefused, a mistake of ours reaches it as it is.
    `weight` gives an item's bytes, where that may be many: one beyond MAX_WEIGHT travels alone.
    """

    def __init__(
        self,
        name: str,
        execute: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        listener: Listener,
        *,
        max_size: int = 200,
        weight: Callable[[Item], int] = lambda _item: 0,
    ) -> None:
        self._name = name
        self._execute = execute
        self._listener = listener
        self._max_size = max_size
        self._weight = weight
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._flusher: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Hand in one item; the future gets its answer or its error.

        Cancelling the future does not take the item back: it may be on its way.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def idle(self) -> None:
        """Wait until nothing is waiting or under way."""
        while self._flusher is not None:
            await asyncio.wait([self._flusher])

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._settle_batch(self._next_batch())
        finally:
            self._flusher = None

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        size = weight = 0
        for item, _ in self._waiting[: self._max_size]:
            weight += self._weight(item)
            if size and weight > MAX_WEIGHT:
                break
            size += 1
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        return batch

    async def _settle_batch(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever it belongs to gets it
            refused = fault_of(error) is Fault.DATA
            if len(batch) > 1 and not isinstance(error, DatabaseAway):
                middle = len(batch) // 2
                await self._settle_batch(batch[:middle])
                await self._settle_batch(batch[middle:])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(RowRefused(str(error)) if refused else error)
            return
        except BaseException:
            # The loop is going down: nobody will answer these any more.
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _run(self, items: Sequence[Item]) -> Sequence[Answer]:
        try:
            return await self._race(items)
        except DatabaseAway as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            # The reply may be lost and the batch committed: on another connection it finds itself.
            return await self._race(items)

    async def _race(self, items: Sequence[Item]) -> Sequence[Answer]:
        for race in range(_RACES):
            try:
                return await self._timed(items)
            except Exception as error:
                if fault_of(error) is not Fault.AGAIN:
                    raise
                lost = error
                # Jitter breaks the tie with whoever we lost to.
                await asyncio.sleep(random.uniform(0.001, 0.01) * 2**race)  # noqa: S311
        raise DatabaseAway(f"Postgres: {_RACES} lost races in a row: {lost}") from lost

    async def _timed(self, items: Sequence[Item]) -> Sequence[Answer]:
        began_at = time.monotonic()
        result = "failed"
        try:
            answers = await self._execute(items)
            result = "done"
        finally:
            seconds = time.monotonic() - began_at
            self._listener.on_event(BatchFlushed(self._name, len(items), seconds, result))
        return answers
