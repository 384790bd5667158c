"""Writes a job's outcome to Redis and makes sure of it, whatever becomes of the connection.

A finish whose reply was lost is looked up before it is repeated; a lock that merely ran out
meanwhile is taken again once. A Redis that takes no writes is waited for. What cannot be finished
is lost, and never turned into a failure.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, assert_never

from redis.exceptions import ResponseError

from campaign_worker.errors import JobNotHeld, RedisAway
from campaign_worker.queue.moves import (
    Complete,
    Fail,
    GiveBack,
    LeaveAlone,
    Move,
    PutOff,
    TryAgain,
)
from campaign_worker.queue.protocol import Next, NothingDue, parse_next
from campaign_worker.queue.refusals import takes_no_writes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from campaign_worker.queue.flight import Tokens
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.protocol import Call, Protocol

#: A script that Redis rejects this often for what it asks is not tried again.
_MOST_REJECTIONS = 5
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_REFUSED_PAUSE_SECONDS = 0.8
_PENDING_CHILDREN, _FAILED_CHILDREN = -4, -9


# Made once per job: a tuple costs half of what a frozen dataclass does.
class Settled(NamedTuple):
    """The outcome is in Redis.

    `following` is what the script said of the next job, if it was `asked`, at the monotonic
    `sent_at`. `limit_ms` is how long the queue is rate limited.
    """

    asked: bool = False
    following: Next = None
    sent_at: float = 0.0
    limit_ms: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """The job is no longer ours, so nothing was written."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Unready:
    """The job has children: pending ones, or failed ones (then it never can complete)."""

    failed_children: bool

    def problem(self, job_id: str) -> str:
        """Say it in Node's words (finished-errors.ts), which apps know as failedReason."""
        if self.failed_children:
            return failed_child(job_id, "moveToFinished")
        return f"Job {job_id} has pending dependencies. moveToFinished"


def failed_child(job_id: str, script: str) -> str:
    """Say in Node's words that a child which must not fail has failed."""
    return f"Cannot complete job {job_id} because it has at least one failed child. {script}"


Result: TypeAlias = Settled | Lost | Unready


@dataclass(slots=True)
class _Tries:
    """What was sent so far for one outcome."""

    sent_at_ms: set[int] = field(default_factory=set)
    uncertain: bool = False
    rejections: int = 0
    refusals: int = 0
    pause_seconds: float = 0.0
    relocked: bool = False

    async def pause(self) -> None:
        """Wait for as long as the last answer asks for."""
        seconds, self.pause_seconds = self.pause_seconds, 0.0
        if seconds:
            await asyncio.sleep(seconds)


class Finisher:
    """Carries out moves for the worker's slots."""

    def __init__(self, link: Link, protocol: Protocol, keys: QueueKeys, tokens: Tokens) -> None:
        self._link = link
        self._protocol = protocol
        self._keys = keys
        self._tokens = tokens
        #: Since when (monotonic) Redis answers finishes by saying that it takes no writes.
        self.refused_since: float | None = None

    async def finish(
        self,
        job: Job,
        token: str,
        move: Move,
        *,
        lock_duration_ms: int,
        may_fetch: Callable[[], bool],
    ) -> Result:
        """Carry out `move`, however long Redis is away or full; callers bound it by cancelling.

        The caller must take over the next job, if one came, before it awaits anything else.
        """
        if isinstance(move, LeaveAlone):
            return Settled()
        tries = _Tries()
        while True:
            if not self._link.connected:
                await self._link.wait_connected()
            # Only the first try asks for the next job: after a lost reply nobody knows whose it is.
            fetch = not tries.sent_at_ms and may_fetch() and not isinstance(move, GiveBack)
            result = await self._once(job, token, move, tries, fetch=fetch)
            if result is not None:
                return result
            await tries.pause()
            fate = await self._fate(job, token, move, tries, lock_duration_ms)
            if fate is not None:
                return fate
            await tries.pause()

    async def _once(
        self, job: Job, token: str, move: Move, tries: _Tries, *, fetch: bool
    ) -> Result | None:
        call = self._call(job, token, move, fetch=fetch)
        tries.sent_at_ms.add(call.at_ms)
        if fetch:
            self._tokens.sent(token)
        sent_at = time.monotonic()
        try:
            try:
                reply = await self._send(call, move)
            except ResponseError as refusal:
                reply = await self._link.refused(call, refusal)
        except RedisAway:
            tries.uncertain = True
        except ResponseError as rejection:
            return self._rejected(rejection, tries)
        else:
            self.refused_since = None
            return self._read(reply, move, sent_at if fetch else None)
        finally:
            if fetch:
                self._tokens.answered(token)
        return None

    def _rejected(self, rejection: ResponseError, tries: _Tries) -> Lost | None:
        """Set the pause before the next try; Lost when there is to be none."""
        if takes_no_writes(rejection):
            # Nothing was executed, and nothing is wrong with the job.
            self.refused_since = self.refused_since or time.monotonic()
            pause = _FIRST_PAUSE_SECONDS * 2**tries.refusals
            tries.pause_seconds = min(_LONGEST_REFUSED_PAUSE_SECONDS, pause)
            tries.refusals += 1
            return None
        tries.uncertain = True
        tries.pause_seconds = _FIRST_PAUSE_SECONDS * 2**tries.rejections
        tries.rejections += 1
        return Lost(rejection) if tries.rejections >= _MOST_REJECTIONS else None

    def _send(self, call: Call, move: Move) -> Awaitable[Any]:
        # Mostly the reply's own future: a coroutine around it would cost each job.
        return self._waking(call) if isinstance(move, GiveBack) else self._link.send(call)

    async def _waking(self, call: Call) -> Any:
        """Send `call`, and wake an idle worker: the stock script does not for a prioritized job."""
        finish = self._link.send(call)
        wake = self._link.execute(self._protocol.restore_marker())
        reply: Any = (await asyncio.gather(finish, wake, return_exceptions=True))[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _read(self, reply: Any, move: Move, asked_at: float | None) -> Result | None:
        asked, sent_at = asked_at is not None, asked_at or 0.0
        if not isinstance(reply, int):
            return Settled(asked, parse_next(reply), sent_at)
        if reply in {_PENDING_CHILDREN, _FAILED_CHILDREN}:
            return Unready(failed_children=reply == _FAILED_CHILDREN)
        if reply < 0:
            return None
        if isinstance(move, GiveBack):
            return Settled(limit_ms=reply if move.limited else 0)
        # moveToFinished says 0 when there is no other job at all; moveToDelayed does not say.
        empty = asked and isinstance(move, Complete | Fail)
        return Settled(asked, NothingDue() if empty else None, sent_at)

    async def _fate(
        self, job: Job, token: str, move: Move, tries: _Tries, lock_duration_ms: int
    ) -> Result | None:
        """Find out what has become of the job; None means: try again."""
        lost = Lost(JobNotHeld(job.id))
        try:
            await self._link.wait_connected()
            reply = await self._link.execute(self._protocol.inspect(job.id))
            exists, lock, is_active, finished_on, attempts_made = reply
            counted = int(attempts_made) > job.attempts_made
            if lock == token and is_active:
                return None
            finished = finished_on and int(float(finished_on)) in tries.sent_at_ms
            # Without an attempt to count, being out of our hands is what was wanted.
            away = isinstance(move, GiveBack | PutOff) and (not is_active or lock)
            if tries.uncertain and (not exists or finished or counted or away):
                return Settled()
            if lock or not exists or not is_active or tries.relocked:
                return lost
            await self._link.command(
                "SET", self._keys.lock(job.id), token, "NX", "PX", lock_duration_ms
            )
            tries.relocked = True
        except RedisAway:
            # Asked again on the next connection: the repeated finish is refused if it was executed.
            return None
        except ResponseError as rejection:
            if takes_no_writes(rejection):
                return self._rejected(rejection, tries)
            return Lost(rejection)
        return None

    def _call(self, job: Job, token: str, move: Move, *, fetch: bool) -> Call:
        protocol = self._protocol
        match move:
            case Complete():
                return protocol.complete(job, token, move.value_json, fetch=fetch)
            case Fail():
                return protocol.fail(job, token, move.reason, move.fields, fetch=fetch)
            case TryAgain(delay_ms=0):
                return protocol.retry(job, token, move.fields)
            case TryAgain():
                return protocol.delay(job, token, move.delay_ms, move.fields, fetch=fetch)
            case PutOff():
                return protocol.put_off(job, token, move.until_ms, fetch=fetch)
            case GiveBack():
                return protocol.hand_back(job.id, token)
            case LeaveAlone():
                raise ValueError("a job that was moved already needs no call")
            case _:
                assert_never(move)
