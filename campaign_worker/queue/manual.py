"""Jobs claimed and ended by hand, for a worker without a processor: BullMQ's manual mode.

As in BullMQ nothing is renewed or handed back for them: `job.extend_lock` keeps a lock. A job that
a lost reply has claimed is found again by its token.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

from campaign_worker.errors import PayloadError, RedisAway
from campaign_worker.queue.endings import Ending, Failed
from campaign_worker.queue.finish import Lost, Settled, Unready
from campaign_worker.queue.job import Job, NextJob
from campaign_worker.queue.manualwriter import ManualWriter
from campaign_worker.queue.moves import (
    Fail,
    GiveBack,
    LeaveAlone,
    Move,
    decide,
    outcome_of,
)
from campaign_worker.queue.protocol import Claimed, Next, NothingDue, parse_next

if TYPE_CHECKING:
    from campaign_worker.queue.engine import Engine
    from campaign_worker.queue.finish import Result
    from campaign_worker.queue.options import WorkerOptions
    from campaign_worker.queue.report import Reporter

T = TypeVar("T")


@dataclass(slots=True)
class _Request:
    """One wait for a job; `wanted` until its caller is gone."""

    token: str
    wanted: bool = True
    claiming: bool = False


class Manual:
    """The jobs of one worker that its user claims and ends."""

    def __init__(
        self, queue: str, engine: Engine, options: WorkerOptions, report: Reporter
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._options = options
        self._report = report
        #: Token and monotonic time of the claim, by job id.
        self._held: dict[str, tuple[str, float]] = {}

    async def next(self, token: str, *, block: bool) -> Job | None:
        """Claim a job; None when there is none, or the worker is paused or closed.

        A job that comes when the caller was cancelled goes back at once.
        """
        if not self._engine.intake.open:
            return None
        request = _Request(token)
        task = asyncio.create_task(self._next(request, block=block), name="manual-claim")
        try:
            return await task if await self._outlived(task) else None
        except asyncio.CancelledError:
            request.wanted = False
            task.add_done_callback(_retrieve)
            raise
        finally:
            if self._engine.stopped.is_set() or not request.claiming:
                task.cancel()

    def adopt(self, raw: dict[str, str] | None, job_id: str | None, token: str) -> Job | None:
        """Take over a job that the end of another one has brought.

        Raises errors.PayloadError when its data is no JSON; the job stays active.
        """
        if not raw or job_id is None:
            return None
        job = Job(self._queue, job_id, raw)
        job.bind(ManualWriter(self._engine.writer, self.let_go), token, self)
        self._held[job_id] = (token, time.monotonic())
        self._report.claimed(job)
        job.load(raw)
        return job

    async def end(self, job: Job, ending: Ending, token: str, *, fetch: bool) -> NextJob | None:
        """End a job; what `fetch` brought, if it was asked for.

        Raises errors.JobNotHeld when the job is not ours any more, errors.RedisAway when the worker
        is closed meanwhile, RuntimeError when the job has children that have not finished.
        """
        self._engine.tokens.sent(flight := self._engine.tokens.take())
        try:
            move = await decide(ending, job, self._options)
            self._settled(job, move, await self._finish(job, token, move))
            if not (fetch and self._engine.intake.open):
                return None
            return _next_job(await self._while_alive(self._claim(token)))
        finally:
            self._engine.tokens.answered(flight)

    def let_go(self, job: Job, outcome: str) -> None:
        """Note that a job is ours no longer."""
        held = self._held.pop(job.id, None)
        if held is not None:
            self._report.ended(job, outcome, time.monotonic() - held[1])

    async def _finish(self, job: Job, token: str, move: Move) -> Result:
        return await self._while_alive(
            self._engine.finisher.finish(
                job,
                token,
                move,
                lock_duration_ms=self._options.lock_duration_ms,
                may_fetch=lambda: False,
            )
        )

    def _settled(self, job: Job, move: Move, result: Result) -> None:
        match result:
            case Settled():
                self.let_go(job, outcome_of(move))
            case Lost(error):
                self.let_go(job, "lost")
                self._report.lost(error)
                raise error
            case Unready():
                raise RuntimeError(result.problem(job.id))
            case _:
                assert_never(result)
        if isinstance(move, GiveBack):
            self._report.handed_back(move.reason)
        elif not isinstance(move, LeaveAlone):
            job.attempts_made += 1
        if isinstance(move, Fail):
            job.failed_reason = move.reason

    async def _next(self, request: _Request, *, block: bool) -> Job | None:
        engine = self._engine
        await engine.link.wait_connected()
        if block:
            await engine.fetcher.idle(engine.blocker)
            engine.blocker.want(wanted=False)
        if not engine.intake.open or engine.intake.limited:
            return None
        engine.tokens.sent(flight := engine.tokens.take())
        request.claiming = True
        try:
            claimed = await self._claim(request.token)
            return await self._admit(claimed, request) if isinstance(claimed, Claimed) else None
        finally:
            engine.tokens.answered(flight)

    async def _admit(self, claimed: Claimed, request: _Request) -> Job | None:
        if not (self._engine.intake.open and request.wanted):
            job = Job(self._queue, claimed.job_id, claimed.raw)
            await self._finish(job, request.token, GiveBack("not wanted"))
            return None
        try:
            return self.adopt(claimed.raw, claimed.job_id, request.token)
        except PayloadError as fault:
            job = Job(self._queue, claimed.job_id, claimed.raw)
            await self.end(job, Failed(fault, retry=False), request.token, fetch=False)
            return None

    async def _claim(self, token: str) -> Next:
        engine = self._engine
        lost_at_ms: set[int] = set()
        while True:
            await engine.link.wait_connected()
            try:
                if lost_at_ms and (found := await self._stranded(token, lost_at_ms)):
                    return found
                asked_at = time.monotonic()
                call = engine.protocol.claim(token)
                lost_at_ms.add(call.at_ms)
                reply = await engine.link.execute(call)
            except RedisAway:
                continue
            answer = parse_next(reply)
            engine.fetcher.note(answer, asked_at)
            if isinstance(answer, Claimed) and "rjk" in answer.raw:
                await self._follow(answer)
            return answer

    async def _follow(self, claimed: Claimed) -> None:
        """Produce the next iteration of the job's scheduler."""
        job = Job(self._queue, claimed.job_id, claimed.raw)
        with contextlib.suppress(PayloadError):
            # Whoever takes the job over is told.
            job.load(claimed.raw)
        await self._engine.iterations.follow(job)

    async def _stranded(self, token: str, claimed_at_ms: set[int]) -> Claimed | None:
        """Find the job of a claim whose reply was lost; others may use the same token."""
        engine = self._engine
        flat = await engine.link.execute(engine.protocol.claimed_by(token))
        for job_id, lock in zip(flat[::2], flat[1::2], strict=True):
            if lock != token or job_id in self._held:
                continue
            fields = await engine.link.command("HGETALL", engine.keys.job(job_id))
            raw = dict(zip(fields[::2], fields[1::2], strict=True))
            if Job(self._queue, job_id, raw).processed_on in claimed_at_ms:
                return Claimed(raw, job_id)
        return None

    async def _while_alive(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`; raises errors.RedisAway when the worker stops before it is done."""
        task = asyncio.create_task(work, name="manual")
        try:
            if not await self._outlived(task):
                raise RedisAway("the worker was closed")
            return await task
        finally:
            task.cancel()

    async def _outlived(self, task: asyncio.Task[Any]) -> bool:
        """Wait for the task; False when the worker has stopped before."""
        stopped = asyncio.create_task(self._engine.stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when="FIRST_COMPLETED")
        finally:
            stopped.cancel()
        return task.done()


def _retrieve(task: asyncio.Task[Any]) -> None:
    # Nobody is left to be told.
    if not task.cancelled():
        task.exception()


def _next_job(following: Next) -> NextJob:
    match following:
        case Claimed():
            return (following.raw, following.job_id, 0, 0)
        case NothingDue():
            return (None, None, following.limited_ms, following.due_ms)
        case None:
            return (None, None, 0, 0)
        case _:
            assert_never(following)
