"""One batch of events and the requests that wait for it. Knows no store and no clock."""

from __future__ import annotations

import asyncio

from campaign_worker.tracking.events import Secured, TrackingEvent


class Batch:
    """Collects events; answers all its requests at once, and only once.

    `attempts` counts the writes that are under way for it, `settled` says that no more will come of
    them: it is secured, or kept in memory.
    """

    __slots__ = (
        "_answered",
        "_waiters",
        "attempts",
        "events",
        "opened_at",
        "settled",
        "streamed",
        "timer",
    )

    def __init__(self, opened_at: float) -> None:
        self.opened_at = opened_at
        self.events: list[TrackingEvent] = []
        self.timer: asyncio.TimerHandle | None = None
        self.attempts = 0
        self.settled = False
        self.streamed = False
        self._answered = False
        self._waiters: list[asyncio.Future[Secured]] = []

    def add(self, event: TrackingEvent) -> asyncio.Future[Secured]:
        """Take an event in; the future is its answer."""
        self.events.append(event)
        waiter: asyncio.Future[Secured] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def answer(self, how: Secured) -> bool:
        """Answer every request; False if they have been answered before."""
        if self._answered:
            return False
        self._answered = True
        if self.timer is not None:
            self.timer.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(how)
        return True
