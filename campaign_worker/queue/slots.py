"""Runs jobs: one task each, from claim to settled outcome, and on to the job its finish brought.

Never claims by itself and never decides when to stop: the worker does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, assert_never

from campaign_worker.errors import JobNotHeld, PayloadError
from campaign_worker.queue.abort import AbortReason, AbortSignal
from campaign_worker.queue.active import ActiveJob, Phase
from campaign_worker.queue.control import UnrecoverableError
from campaign_worker.queue.endings import Completed, Deferred, Ending, Failed, HandedBack
from campaign_worker.queue.finish import Lost, Settled, Unready
from campaign_worker.queue.job import Job
from campaign_worker.queue.locks import HeldLock
from campaign_worker.queue.moves import (
    Complete,
    Fail,
    GiveBack,
    LeaveAlone,
    Move,
    PutOff,
    TryAgain,
    decide,
    outcome_of,
)
from campaign_worker.queue.timeout import TimeLimit
from campaign_worker.queue.writer import STALLED_TOO_OFTEN

if TYPE_CHECKING:
    from campaign_worker.queue.finish import Finisher, Result
    from campaign_worker.queue.intake import Intake
    from campaign_worker.queue.iterations import Iterations
    from campaign_worker.queue.locks import LockRenewer
    from campaign_worker.queue.options import WorkerOptions
    from campaign_worker.queue.protocol import Claimed, Next
    from campaign_worker.queue.report import Reporter
    from campaign_worker.queue.writer import QueueJobWriter

    Process = Callable[[Job, str, AbortSignal], Awaitable[Any]]


class Slots:
    """The active jobs of a worker."""

    def __init__(
        self,
        queue: str,
        options: WorkerOptions,
        process: Process,
        finisher: Finisher,
        locks: LockRenewer,
        intake: Intake,
        report: Reporter,
    ) -> None:
        self._queue = queue
        self._options = options
        limit_ms = options.job_timeout_ms
        self._process = process if limit_ms is None else TimeLimit(process, limit_ms)
        self._finisher = finisher
        self._locks = locks
        self._intake = intake
        self._report = report
        self.concurrency = options.concurrency
        self.writer: QueueJobWriter | None = None
        self.iterations: Iterations | None = None
        #: Passes on what a finish said about the next job: (answer, token, claimed_at).
        self.on_next: Callable[[Next, str, float], None] = lambda *_: None
        self.active: dict[str, ActiveJob] = {}
        #: Jobs that came when intake had closed, on their way back.
        self.returning: dict[asyncio.Task[None], ActiveJob] = {}

    def has_room(self) -> bool:
        """Tell whether another job may be claimed."""
        return len(self.active) < self.concurrency

    def start(self, claimed: Claimed, token: str, claimed_at: float) -> None:
        """Take over a claimed job; when intake has closed meanwhile, hand it back un-started."""
        active = self._admit(claimed, token, claimed_at)
        if not self._intake.open:
            task = asyncio.create_task(self._return(active), name=f"hand-back-{active.job.id}")
            self.returning[task] = active
            task.add_done_callback(self.returning.pop)
            return
        self.active[token] = active
        self._report.claimed(active.job)
        loop = asyncio.get_running_loop()
        active.task = loop.create_task(self._run(active), name=f"job-{active.job.id}")

    def holds(self, job_id: str, token: str) -> bool:
        """Tell whether the job is in a slot, or on its way back, under this token."""
        held = (*self.active.values(), *self.returning.values())
        return any(each.token == token and each.job.id == job_id for each in held)

    def cancel(self, active: ActiveJob, reason: AbortReason) -> None:
        """End a job that still runs; one whose outcome is being written is left to it."""
        active.signal.abort(reason)
        if active.cancelled is not None or active.phase in {Phase.SETTLING, Phase.ABANDONED}:
            return
        active.cancelled = reason
        if active.phase is Phase.RUNNING and active.task is not None:
            active.task.cancel()

    def lock_lost(self, lock: HeldLock) -> None:
        """Redis refused the lock, or did not answer for too long: the job may do nothing more."""
        active = self.active.get(lock.token)
        if active is not None and active.lock is lock:
            self.cancel(active, AbortReason.LOCK_LOST)

    async def hand_back_now(self, active: ActiveJob, reason: str) -> None:
        """Return a job whose processor does not end; whatever it does later is not written."""
        active.phase, active.outcome = Phase.ABANDONED, "abandoned"
        active.signal.abort(AbortReason.SHUTDOWN)
        move = GiveBack(reason)
        try:
            result = await self._finish(active, move)
            self._report_result(result, move)
            if isinstance(result, Settled):
                active.outcome = "handed back"
                self._locks.drop(active.lock)
        finally:
            # Its processor may never end: nobody else would say it.
            self._tell_end(active)

    def _admit(self, claimed: Claimed, token: str, claimed_at: float) -> ActiveJob:
        job = Job(self._queue, claimed.job_id, claimed.raw)
        fault = None
        try:
            job.load(claimed.raw)
        except PayloadError as error:
            fault = error
        if self.writer is not None:
            job.bind(self.writer, token)
        lock = HeldLock(job.id, token, AbortSignal())
        if not self._options.skip_lock_renewal:
            self._locks.keep(lock, claimed_at)
        return ActiveJob(job, token, lock, fault)

    async def _return(self, active: ActiveJob) -> None:
        try:
            move = GiveBack("not started")
            self._report_result(await self._finish(active, move), move)
        except asyncio.CancelledError:
            self._report.stranded(active.job)
            raise
        finally:
            self._locks.drop(active.lock)

    async def _run(self, active: ActiveJob) -> None:
        settled: Settled | None = None
        try:
            if active.job.repeat_job_key is not None and self.iterations is not None:
                await self.iterations.follow(active.job)
            if active.job.deferred_failure and self._options.ignore_stall_limit:
                await self._forgive(active.job)
            refusal = self._refusal(active)
            if refusal is None:
                ending = await self._processed(active)
            else:
                ending = Failed(refusal, retry=False)
            if active.phase is Phase.ABANDONED:
                pass
            elif refusal is None and active.signal.reason is AbortReason.LOCK_LOST:
                self._report.lost(JobNotHeld(active.job.id))
            else:
                active.phase = Phase.SETTLING
                settled = await self._settle(active, ending)
        except asyncio.CancelledError:
            if active.phase is not Phase.ABANDONED:
                active.outcome = "abandoned"
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not end the worker
            # Ours, not the processor's: the lock runs out and the stalled sweep returns the job.
            self._report.error(error)
        finally:
            self._locks.drop(active.lock)
            self.active.pop(active.token, None)
            if active.phase is not Phase.ABANDONED:
                self._tell_end(active)
            self._go_on(active, settled)

    def _tell_end(self, active: ActiveJob) -> None:
        active.told = True
        seconds = time.monotonic() - active.started_at
        self._report.ended(active.job, active.outcome, seconds)

    def _go_on(self, active: ActiveJob, settled: Settled | None) -> None:
        """Fill the slot with the job that its finish brought, or have one claimed."""
        try:
            if settled is not None and settled.limit_ms:
                self._intake.note_limit(settled.limit_ms)
            if settled is not None and settled.asked:
                self.on_next(settled.following, active.token, settled.sent_at)
        finally:
            # While all slots are full there is nothing to wake the fetcher for.
            if self.has_room():
                self._intake.changed.set()

    async def _processed(self, active: ActiveJob) -> Ending:
        if active.cancelled is not None:
            return HandedBack(active.cancelled.value)
        active.phase = Phase.RUNNING
        try:
            value = await self._process(active.job, active.token, active.signal)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            cancelled = active.was_cancelled()
            if cancelled is not None and task is not None and task.uncancel() == 0:
                return HandedBack(cancelled.value)
            if task is not None and task.cancelling():
                # Not the worker's doing: the event loop is being taken down.
                raise
            return Failed(error)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - a processor must not end the worker
            return Failed(error)
        finally:
            if active.phase is Phase.RUNNING:
                active.phase = Phase.SETTLING
        if active.was_cancelled() is not None and (task := asyncio.current_task()) is not None:
            # The processor had something better to do with our cancellation than to end.
            task.uncancel()
        if isinstance(value, Completed | Failed | Deferred | HandedBack):
            return value
        return Completed(value)

    async def _forgive(self, job: Job) -> None:
        if job.deferred_failure == STALLED_TOO_OFTEN and self.writer is not None:
            await self.writer.forgive_stall(job)

    def _refusal(self, active: ActiveJob) -> BaseException | None:
        if active.job.deferred_failure:
            return UnrecoverableError(active.job.deferred_failure)
        limit = self._options.max_started_attempts
        if limit and limit < active.job.attempts_started:
            return UnrecoverableError("job started more than allowable limit")
        return active.fault

    async def _settle(self, active: ActiveJob, ending: Ending) -> Settled | None:
        job = active.job
        while True:
            move = await decide(ending, job, self._options)
            result = await self._finish(active, move)
            self._report_result(result, move)
            match result:
                case Settled():
                    self._report_end(active, move)
                    return result
                case Lost():
                    return None
                case Unready(failed_children=True):
                    ending = Failed(UnrecoverableError(result.problem(job.id)), retry=False)
                case Unready():
                    ending = Failed(RuntimeError(result.problem(job.id)))
                case _:
                    assert_never(result)

    def _finish(self, active: ActiveJob, move: Move) -> Coroutine[Any, Any, Result]:
        active.lock.settling = True
        return self._finisher.finish(
            active.job,
            active.token,
            move,
            lock_duration_ms=self._options.lock_duration_ms,
            may_fetch=self._may_fetch,
        )

    def _report_result(self, result: Result, move: Move) -> None:
        if isinstance(result, Lost):
            self._report.lost(result.error)
        elif isinstance(move, GiveBack):
            self._report.handed_back(move.reason)

    def _may_fetch(self) -> bool:
        return self._intake.open and len(self.active) <= self.concurrency

    def _report_end(self, active: ActiveJob, move: Move) -> None:
        job = active.job
        active.outcome = outcome_of(move)
        match move:
            case Complete():
                job.return_value = move.value
                job.attempts_made += 1
                self._report.emit("completed", job, move.value, "active")
            case Fail() | TryAgain():
                job.failed_reason = move.reason
                job.attempts_made += 1
                self._report.emit("failed", job, move.error, "active")
            case PutOff() | LeaveAlone() | GiveBack():
                pass
            case _:
                assert_never(move)
