"""The worker as its users know it: bullmq's Worker, and a stop in stages for the product's own plan.

Owns no protocol and no Redis call; engine.py has the parts.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from campaign_worker.errors import SettingsError
from campaign_worker.queue.abort import AbortReason, AbortSignal
from campaign_worker.queue.engine import Engine
from campaign_worker.queue.events import Emitter
from campaign_worker.queue.job import Job
from campaign_worker.queue.options import WorkerOptions
from campaign_worker.queue.report import Reporter
from campaign_worker.queue.slots import ActiveJob, Phase
from shutdown import Deadline

if TYPE_CHECKING:
    from campaign_worker.queue.events import Listener as EventListener
    from metrics import Listener

#: What close() without a deadline allows to each part that only waits for Redis.
_INTAKE_SECONDS = 10.0
_REDIS_AWAY_SECONDS = 5.0
_FORCED_SECONDS = 2.0
_TEARDOWN_SECONDS = 2.0

Processor = Callable[..., Awaitable[Any]]


class Worker:
    """Runs the jobs of one queue; stands in for `bullmq.Worker`.

    `processor` is `async (job, token)` or `async (job, token, signal)`; it returns an Ending or any
    JSON value, or raises. `opts` has Node's option names (options.py). With `autorun` (the default)
    the worker starts at once and needs a running event loop.

    Raises UnsupportedOption or SettingsError for options, ScriptsChanged for another bullmq package.
    """

    def __init__(
        self,
        name: str,
        processor: Processor,
        opts: Mapping[str, Any] | WorkerOptions | None = None,
        *,
        listener: Listener | None = None,
    ) -> None:
        if not callable(processor):
            raise SettingsError("processor", "must be an async function")
        if not name or ":" in name:
            raise SettingsError("name", "a queue's name must be given and contain no colon")
        self.name = name
        self.options = WorkerOptions.parse(opts)
        self._emitter = Emitter()
        self._report = Reporter(name, self._emitter, listener)
        self._engine = Engine(name, _adapt(processor), self.options, self._report)
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._forced = asyncio.Event()
        self._started = False
        self._running: asyncio.Task[None] | None = None
        if self.options.autorun:
            self._running = asyncio.get_running_loop().create_task(self.run())

    @property
    def id(self) -> str:
        """What every lock token of this worker begins with."""
        return self._engine.tokens.worker_id

    @property
    def active_jobs(self) -> int:
        """How many jobs are between claim and settled outcome."""
        return len(self._active())

    @property
    def last_claim_monotonic(self) -> float | None:
        """Monotonic seconds of the last claim that Redis answered, with or without a job."""
        return self._engine.fetcher.last_claim

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
        await self._engine.ready.wait()

    def is_running(self) -> bool:
        """Tell whether the worker was started and not closed."""
        return self._started and not self._closed.is_set()

    def is_paused(self) -> bool:
        """Tell whether the worker is paused (not the queue)."""
        return self._engine.intake.paused

    async def run(self) -> None:
        """Work until closed. Cancelling this drops everything at once; close() is the way out.

        Raises RuntimeError when the worker runs already.
        """
        if self._started:
            raise RuntimeError("Worker is already running.")
        self._started = True
        if self._closing is not None:
            return
        self._engine.start()
        ready = asyncio.create_task(self._announce())
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            self._engine.abandon()
            raise
        finally:
            ready.cancel()

    async def pause(self, do_not_wait_active: bool = False) -> None:
        """Claim nothing more; return when no job is active, or at once with `do_not_wait_active`."""
        intake = self._engine.intake
        if intake.paused:
            return
        intake.paused = True
        self._engine.stop_intake()
        if not do_not_wait_active:
            await self._engine.intake_settled()
            await self._ended(None)
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
        """Set the signal of an active job; True if there is one. The processor decides what follows."""
        found = [active for active in self._active() if active.job.id == job_id]
        for active in found:
            active.signal.abort(AbortReason.CANCELLED)
        return bool(found)

    def quiet(self) -> None:
        """Claim nothing from now on, for good; idempotent, returns at once."""
        if not self._engine.intake.quiet:
            self._engine.intake.quiet = True
            self._engine.stop_intake()

    async def settle_intake(self, deadline: Deadline) -> bool:
        """Wait for claims under way; what they bring goes back un-started. False: not all is known."""
        try:
            await deadline.wait_for(self._engine.intake_settled())
        except TimeoutError:
            return False
        return True

    async def drain(self, deadline: Deadline) -> bool:
        """Wait for the active jobs, whose locks stay renewed; True when none is left."""
        await self._ended(deadline)
        return not self._active()

    def abort(self, reason: AbortReason) -> None:
        """Tell every active job to stop at its next safe point."""
        for active in self._active():
            active.signal.abort(reason)

    async def hand_back(self, deadline: Deadline) -> None:
        """Cancel what still runs, wait for it, and hand the jobs back, by force if need be.

        A job whose outcome is being written is waited for, not cancelled.
        """
        slots = self._engine.slots
        for active in self._active():
            slots.cancel(active, AbortReason.SHUTDOWN)
        await self._ended(deadline.sooner(min(1.0, deadline.remaining() / 4)))
        stuck = [active for active in self._active() if active.phase is Phase.RUNNING]
        if not stuck:
            return
        returns = [
            asyncio.create_task(slots.hand_back_now(active, AbortReason.SHUTDOWN.value))
            for active in stuck
        ]
        _, pending = await asyncio.wait(returns, timeout=deadline.remaining())
        for task in pending:
            task.cancel()

    async def close(self, force: bool = False, *, deadline: Deadline | None = None) -> None:
        """Stop: nothing new, active jobs finish, locks last, then connections. Idempotent.

        With a deadline, or with `force`, jobs that do not finish in time are handed back. Without,
        processors may take as long as they like, but nothing waits for a Redis that is away.
        Cancelling the caller does not stop the closing; `close(force=True)` hurries it.
        """
        if force:
            self._forced.set()
        if self._closing is None:
            self._report.emit("closing", "closing queue")
            self._closing = asyncio.get_running_loop().create_task(self._close(deadline))
        await asyncio.shield(self._closing)

    async def _close(self, deadline: Deadline | None) -> None:
        if self._started:
            self.quiet()
            await self.settle_intake(
                _within(deadline, 1.0 if self._forced.is_set() else _INTAKE_SECONDS)
            )
            reserve = None if deadline is None else min(2.0, deadline.remaining() / 4)
            await self._drain_or_give_up(
                deadline.sooner(reserve) if deadline is not None and reserve is not None else None
            )
            if self._active():
                self.abort(AbortReason.SHUTDOWN)
                await self.hand_back(_within(deadline, _FORCED_SECONDS))
            # A deadline that is over still leaves the moment that sockets and a thread need.
            await self._engine.stop(Deadline.after(_TEARDOWN_SECONDS))
        self._closed.set()
        self._report.emit("closed")

    async def _drain_or_give_up(self, deadline: Deadline | None) -> None:
        """Wait for active jobs until the deadline, force, or a Redis that stays away."""
        forced = asyncio.create_task(self._forced.wait())
        try:
            while self._active() and not self._forced.is_set():
                if (deadline is not None and deadline.expired) or self._only_redis_missing():
                    return
                pause = 0.5 if deadline is None else min(0.5, deadline.remaining())
                await asyncio.wait(
                    {forced, *self._tasks()}, timeout=pause, return_when="FIRST_COMPLETED"
                )
        finally:
            forced.cancel()

    def _only_redis_missing(self) -> bool:
        since = self._engine.link.lost_since
        settling = all(active.phase is Phase.SETTLING for active in self._active())
        return settling and since is not None and time.monotonic() - since > _REDIS_AWAY_SECONDS

    async def _ended(self, deadline: Deadline | None) -> None:
        while tasks := self._tasks():
            timeout = None if deadline is None else deadline.remaining()
            if timeout == 0:
                return
            await asyncio.wait(tasks, timeout=timeout, return_when="FIRST_COMPLETED")

    def _active(self) -> list[ActiveJob]:
        slots = self._engine.slots
        return [active for active in slots.active.values() if active.phase is not Phase.ABANDONED]

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {active.task for active in self._active() if active.task is not None}

    async def _announce(self) -> None:
        await self._engine.ready.wait()
        self._report.emit("ready")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            alias = _NODE_NAMES.get(name)
            if alias is None:
                raise AttributeError(f"Worker has no attribute {name!r}")
            return getattr(self, alias)


_NODE_NAMES = {
    "cancelJob": "cancel_job",
    "isPaused": "is_paused",
    "isRunning": "is_running",
    "opts": "options",
    "waitUntilReady": "wait_until_ready",
}


def _within(deadline: Deadline | None, seconds: float) -> Deadline:
    return Deadline.after(seconds) if deadline is None else deadline.at_most(seconds)


def _adapt(processor: Processor) -> Callable[[Job, str, AbortSignal], Awaitable[Any]]:
    """Call the processor with as many arguments as it takes; only a third one gets the signal."""
    if _takes_signal(processor):
        return processor

    def without_signal(job: Job, token: str, signal: AbortSignal) -> Awaitable[Any]:
        return processor(job, token)

    return without_signal


def _takes_signal(processor: Processor) -> bool:
    try:
        parameters = inspect.signature(processor).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(parameter.kind in positional for parameter in parameters) >= 3  # noqa: PLR2004 - (job, token, signal)
