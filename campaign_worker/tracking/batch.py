"""One batch of events and the requests that wait for it. Knows no store and no clock."""

from __future__ import annotations

import asyncio

from campaign_worker.tracking.events import Secured, TrackingEvent


class Batch:
    """Collects events; answers all its requests at once, and only once.

    `answered` is that answer. `attempts` counts the writes that are under way, `settled` says that
    no more will come of them: the events are secured, or kept in memory.
    """

    __slots__ = ("answered", "attempts", "events", "opened_at", "settled", "streamed", "timer")

    def __init__(self, opened_at: float, answered: asyncio.Future[Secured]) -> None:
        self.opened_at = opened_at
        self.answered = answered
        self.events: list[TrackingEvent] = []
        self.timer: asyncio.TimerHandle | None = None
        self.attempts = 0
        self.settled = False
        self.streamed = False

    def answer(self, how: Secured) -> bool:
        """Answer every request; False if they have been answered before."""
        if self.answered.done():
            return False
        if self.timer is not None:
            self.timer.cancel()
        self.answered.set_result(how)
        return True
