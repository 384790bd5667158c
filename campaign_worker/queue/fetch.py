"""Claims jobs for free slots, one claim at a time, and knows when to try next.

Never repeats a claim whose reply was lost; orphans.py finds what such a claim brought.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from campaign_worker.errors import RedisAway
from campaign_worker.queue.protocol import Claimed, Next, NothingDue, parse_next

if TYPE_CHECKING:
    from campaign_worker.queue.blocker import Blocker
    from campaign_worker.queue.flight import Tokens
    from campaign_worker.queue.intake import Intake
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.protocol import Protocol
    from campaign_worker.queue.report import Reporter

#: Longest time without a claim while idle, should the blocking connection be of no use.
_BLIND_SECONDS = 2.0
_REFUSED_PAUSE_SECONDS = 0.5


class Fetcher:
    """The only one that claims, beside the finishes that bring their slot the next job."""

    def __init__(
        self,
        link: Link,
        protocol: Protocol,
        intake: Intake,
        tokens: Tokens,
        report: Reporter,
        *,
        has_room: Callable[[], bool],
        start: Callable[[Claimed, str, float], None],
    ) -> None:
        """`start(claimed, token, claimed_at)` takes over a job; the time is monotonic seconds."""
        self._link = link
        self._protocol = protocol
        self._intake = intake
        self._tokens = tokens
        self._has_room = has_room
        self._start = start
        self._report = report
        #: How long an idle worker blocks before it looks by itself.
        self.block_seconds = 5.0
        #: Monotonic time of the last claim that Redis answered.
        self.last_claim: float | None = None
        self._able_since: float | None = None
        self._told_drained = False

    async def run(self, blocker: Blocker) -> None:
        """Claim until cancelled."""
        while True:
            self._intake.changed.clear()
            wait = self._wait_seconds(blocker)
            if wait == 0:
                await self._claim()
            else:
                await self._sleep(wait)

    @property
    def claimless_seconds(self) -> float:
        """Seconds since a claim was last answered or first possible; 0 while none is possible."""
        if self._able_since is None:
            return 0.0
        return time.monotonic() - max(self._able_since, self.last_claim or 0.0)

    def take(self, answer: Next, token: str, claimed_at: float) -> None:
        """Act on what a script said about the next job."""
        claimed = self.note(answer, claimed_at)
        if claimed is not None:
            self._start(claimed, token, claimed_at)

    def note(self, answer: Next, asked_at: float) -> Claimed | None:
        """Note what a script said about the next job, and return that job if there is one.

        `asked_at` is the monotonic time before it was sent.
        """
        self.last_claim = time.monotonic()
        self._report.polled()
        match answer:
            case Claimed():
                self._intake.drained = self._told_drained = False
                return answer
            case NothingDue(limited_ms=limited) if limited > 0:
                self._intake.note_limit(limited)
            case NothingDue(due_ms=due):
                if self._intake.note_empty(due, asked_at) and not self._told_drained:
                    self._told_drained = True
                    self._report.emit("drained")
            case None:
                self._intake.poke()
        return None

    async def idle(self, blocker: Blocker) -> None:
        """Sleep until a claim is worth a try, once: what `run` does between claims."""
        self._intake.changed.clear()
        wait = self._wait_seconds(blocker)
        if wait != 0:
            await self._sleep(wait)

    def _wait_seconds(self, blocker: Blocker) -> float | None:
        intake = self._intake
        if not (intake.open and self._has_room() and self._link.connected):
            blocker.want(wanted=False)
            self._able_since = None
            return None
        if self._able_since is None:
            self._able_since = time.monotonic()
        wait = intake.wait_seconds()
        blocker.want(wanted=intake.drained and not intake.limited)
        if not intake.drained:
            return wait
        longest = self.block_seconds + _BLIND_SECONDS
        if wait is None or wait > longest:
            # A missed marker or a due time far away: look again by ourselves.
            return longest
        return wait

    async def _sleep(self, seconds: float | None) -> None:
        timer = None
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(seconds, self._intake.poke)
        try:
            await self._intake.changed.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _claim(self) -> None:
        token = self._tokens.take()
        call = self._protocol.claim(token)
        claimed_at = time.monotonic()
        self._tokens.sent(token)
        try:
            reply = await self._link.execute(call)
            self.take(parse_next(reply), token, claimed_at)
        except RedisAway:
            # Whether a job was claimed is found out on the next connection.
            return
        except ResponseError as refusal:
            # Redis is there and says no (out of memory, say): nobody hangs, we cannot claim.
            self._able_since = None
            self._report.error(refusal)
            await asyncio.sleep(_REFUSED_PAUSE_SECONDS)
        finally:
            self._tokens.answered(token)
