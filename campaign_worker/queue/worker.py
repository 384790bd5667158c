"""The worker as its users know it: bullmq's Worker, and a stop in stages for the product's plan.

Owns no protocol and no Redis call: engine.py has the parts, stop.py the stages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from campaign_worker.errors import SettingsError
from campaign_worker.queue import nodenames
from campaign_worker.queue.abort import AbortReason
from campaign_worker.queue.control import RateLimitError
from campaign_worker.queue.engine import Engine
from campaign_worker.queue.events import Emitter
from campaign_worker.queue.job import Job
from campaign_worker.queue.manual import Manual
from campaign_worker.queue.options import WorkerOptions, check_processor
from campaign_worker.queue.processor import Processor, adapt
from campaign_worker.queue.report import Reporter
from campaign_worker.queue.stop import Stopper

if TYPE_CHECKING:
    from campaign_worker.queue.events import Listener as EventListener
    from metrics import Listener
    from shutdown import Deadline


class Worker:
    """Runs the jobs of one queue; stands in for `bullmq.Worker`.

    `processor` is `async (job, token)` or `async (job, token, signal)`; it returns an Ending or any
    JSON value, or raises. Without one, jobs are claimed by `get_next_job` and ended by their own
    methods. `opts` has Node's option names (options.py). With `autorun` (the default)
    the worker starts at once and needs a running event loop.

    Raises UnsupportedOption or SettingsError for options, ScriptsChanged for another bullmq.
    """

    #: As in Node: `raise Worker.RateLimitError()`.
    RateLimitError = RateLimitError

    def __init__(
        self,
        name: str,
        processor: Processor | None = None,
        opts: Mapping[str, Any] | WorkerOptions | None = None,
        *,
        listener: Listener | None = None,
    ) -> None:
        check_processor(processor)
        if not name or ":" in name:
            raise SettingsError("name", "a queue's name must be given and contain no colon")
        self.name = name
        self.options = WorkerOptions.parse(opts)
        self._emitter = Emitter()
        self._report = Reporter(name, self._emitter, listener)
        self._processor = processor
        self._engine = Engine(name, adapt(processor), self.options, self._report)
        self._manual = Manual(name, self._engine, self.options, self._report)
        self._stop = Stopper(self._engine)
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._started = False
        self._running: asyncio.Task[None] | None = None
        if self.options.autorun and processor is not None:
            self._running = asyncio.get_running_loop().create_task(self.run())

    @property
    def id(self) -> str:
        """What every lock token of this worker begins with."""
        return self._engine.tokens.worker_id

    @property
    def active_jobs(self) -> int:
        """How many jobs are between claim and settled outcome."""
        return len(self._stop.active())

    @property
    def last_claim_monotonic(self) -> float | None:
        """Monotonic seconds of the last claim that Redis answered, with or without a job.

        It stands still while nothing may be claimed (slots full, held, paused, Redis away): judge
        whether the worker is stuck by `claimless_seconds`.
        """
        return self._engine.fetcher.last_claim

    @property
    def claimless_seconds(self) -> float:
        """For how long the worker could have claimed and did not; 0 while it must not or cannot."""
        return self._engine.fetcher.claimless_seconds

    def now_ms(self) -> int:
        """Epoch milliseconds by Redis' clock, as Deferred wants them."""
        return self._engine.clock.now_ms()

    @property
    def concurrency(self) -> int:
        """How many jobs may be active at a time; can be set while running."""
        return self._engine.slots.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        if value < 1:
            raise SettingsError("concurrency", "must be a whole number of at least 1")
        self._engine.slots.concurrency = value
        self._engine.intake.poke()

    def on(self, event: str, listener: EventListener) -> EventListener:
        """Add a listener for one of Node's events (events.py); it is called synchronously."""
        return self._emitter.on(event, listener)

    def off(self, event: str, listener: EventListener) -> None:
        """Remove a listener."""
        self._emitter.off(event, listener)

    async def wait_until_ready(self) -> None:
        """Return when Redis has been reached for the first time. Unbounded."""
        if self._processor is None:
            self._start_manual()
        await self._engine.ready.wait()

    def is_running(self) -> bool:
        """Tell whether the worker was started and not closed."""
        return self._started and not self._closed.is_set()

    def is_paused(self) -> bool:
        """Tell whether the worker is paused (not the queue)."""
        return self._engine.intake.paused

    async def run(self) -> None:
        """Work until closed. Cancelling this drops everything at once; close() is the way out.

        Raises RuntimeError when the worker runs already, or has no processor.
        """
        if self._processor is None:
            raise RuntimeError("No process function is defined.")
        if self._started:
            raise RuntimeError("Worker is already running.")
        if self._closing is not None:
            return
        self._started = True
        self._engine.start()
        ready = asyncio.create_task(self._announce())
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            self._engine.abandon()
            raise
        finally:
            ready.cancel()

    async def get_next_job(self, token: str, *, block: bool = True) -> Job | None:
        """Claim a job by hand, locked under `token`; None when there is none.

        When the queue was found empty before, `block` waits for a job for up to `drainDelay`. The
        lock is not renewed: see `Job.extend_lock`. A worker with a processor cannot do this.
        """
        self._start_manual()
        return await self._manual.next(token, block=block)

    def next_job_from_job_data(
        self, job_data: dict[str, str] | None, job_id: str | None = None, *rest: Any
    ) -> Job | None:
        """Make a job of what an ending with `fetch_next` brought; the last argument is the token.

        Raises errors.PayloadError when its data is no JSON; the job stays active then.
        """
        return self._manual.adopt(job_data, job_id, str(rest[-1]) if rest else "")

    async def rate_limit(self, expire_ms: int) -> None:
        """Let no worker claim a job of this queue for `expire_ms`; raise RateLimitError with it.

        Raises errors.RedisAway.
        """
        await self._engine.rate_limit(expire_ms)

    async def extend_job_locks(
        self, job_ids: Sequence[str], tokens: Sequence[str], duration_ms: int
    ) -> list[str]:
        """Give locks `duration_ms` from now; the ids of those that are not their tokens' any more.

        Raises errors.RedisAway.
        """
        return await self._engine.extend_locks(job_ids, tokens, duration_ms)

    def start_stalled_check_timer(self) -> None:
        """Return stalled jobs in manual mode too: now and at every `stalledInterval`."""
        self._start_manual()
        self._engine.start_sweep()

    async def pause(self, do_not_wait_active: bool = False) -> None:
        """Claim nothing more, and return when no job is active, unless told not to wait."""
        intake = self._engine.intake
        if intake.paused:
            return
        intake.paused = True
        self._engine.stop_intake()
        if not do_not_wait_active:
            await self._engine.intake_settled()
            await self._stop.drained(None)
        self._report.emit("paused")

    def resume(self) -> None:
        """Claim again after pause()."""
        if self._engine.intake.paused:
            self._engine.intake.paused = False
            self._engine.intake.poke()
            self._report.emit("resumed")

    def hold(self, reason: str) -> None:
        """Claim nothing while any reason holds; idempotent."""
        if self._engine.intake.hold(reason):
            self._report.held(reason, held=True)

    def release(self, reason: str) -> None:
        """Lift one reason; the last one lifted claims at once."""
        if self._engine.intake.release(reason):
            self._report.held(reason, held=False)

    def cancel_job(self, job_id: str, reason: str | None = None) -> bool:
        """Set the signal of an active job, True if there is one; the processor decides the rest."""
        found = [active for active in self._stop.active() if active.job.id == job_id]
        for active in found:
            active.signal.abort(AbortReason.CANCELLED, reason)
        return bool(found)

    def cancel_all_jobs(self, reason: str | None = None) -> None:
        """Set the signal of every active job."""
        for active in self._stop.active():
            active.signal.abort(AbortReason.CANCELLED, reason)

    def quiet(self) -> None:
        """Claim nothing from now on, for good; idempotent, returns at once."""
        self._stop.quiet()

    async def settle_intake(self, deadline: Deadline) -> bool:
        """Wait for claims under way; what they bring goes back un-started. False: not in time."""
        return await self._stop.settle_intake(deadline)

    async def drain(self, deadline: Deadline) -> bool:
        """Wait for the active jobs, whose locks stay renewed; True when none is left."""
        return await self._stop.drained(deadline)

    def abort(self, reason: AbortReason) -> None:
        """Tell every active job to stop at its next safe point."""
        self._stop.abort(reason)

    async def hand_back(self, deadline: Deadline) -> None:
        """Cancel what still runs, wait for it, and hand the jobs back, by force if need be.

        A job whose outcome is being written is waited for, not cancelled.
        """
        await self._stop.hand_back(deadline)

    async def close(self, force: bool = False, *, deadline: Deadline | None = None) -> None:
        """Stop: nothing new, active jobs finish, locks last, then connections. Idempotent.

        With a deadline, or with `force`, jobs that do not finish in time are handed back. Without,
        processors may take as long as they like, but nothing waits for a Redis that is away.
        Cancelling the caller does not stop the closing; `close(force=True)` hurries it.
        """
        if force:
            self._stop.forced.set()
        if self._closing is None:
            self._report.emit("closing", "closing queue")
            self._closing = asyncio.get_running_loop().create_task(self._close(deadline))
        await asyncio.shield(self._closing)

    async def _close(self, deadline: Deadline | None) -> None:
        if self._started:
            await self._stop.close(deadline)
        self._closed.set()
        self._report.emit("closed")

    def _start_manual(self) -> None:
        if self._processor is not None:
            raise RuntimeError("this worker has a processor: it claims its jobs itself")
        if not self._started and self._closing is None:
            self._started = True
            self._engine.start_connections()

    async def _announce(self) -> None:
        await self._engine.ready.wait()
        self._report.emit("ready")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return nodenames.resolve(self, name, nodenames.WORKER, nodenames.WORKER_LACKS)
