"""Gives what a stream holds to the store: on every replica, side by side, as often as it takes.

Events have ids, so that what two drainers give is there once. Owns no connection.
"""

from __future__ import annotations

import asyncio

import structlog

from campaign_worker.errors import Away
from campaign_worker.tracking.ports import EventStore, EventStream
from metrics import Listener, TrackingDrained
from shutdown import StartStop, end

log = structlog.get_logger(__name__)

PAGE_ENTRIES = 20
"""An entry is a batch; so many of them are read at once."""

EVERY_SECONDS = 0.5


class StreamDrain:
    """Drains one stream; `name` is for logs and metrics."""

    def __init__(
        self, name: str, stream: EventStream, store: EventStore, listener: Listener
    ) -> None:
        self._name = name
        self._stream = stream
        self._store = store
        self._listener = listener

    async def run(self) -> int:
        """Write every entry and delete it; how many events they held. Raises errors.Away."""
        drained, after = 0, "-"
        while entries := await self._stream.page(after, PAGE_ENTRIES):
            done: list[str] = []
            for entry in entries:
                after = f"({entry.id}"
                if entry.events is None:
                    log.warning("tracking events of another version are left alone", id=entry.id)
                    continue
                await self._store.write(entry.events)
                drained += len(entry.events)
                done.append(entry.id)
            await self._stream.drop(*done)
        if drained:
            log.info("tracking events drained", stream=self._name, events=drained)
            self._listener.on_event(TrackingDrained(self._name, drained))
        return drained


class Drainer(StartStop):
    """Drains streams from start to stop, the first of them first."""

    def __init__(self, *drains: StreamDrain, every_seconds: float = EVERY_SECONDS) -> None:
        super().__init__()
        self._drains = drains
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._drain_for_ever(), name="drain of tracking")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _drain_for_ever(self) -> None:
        while True:
            try:
                for drain in self._drains:
                    await drain.run()
            except Away as error:
                log.debug("tracking not drained", error=str(error))
            except Exception:
                log.exception("tracking not drained")
            await asyncio.sleep(self._every_seconds)
