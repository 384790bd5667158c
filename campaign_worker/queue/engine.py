"""Puts a worker's parts together and keeps its background tasks; the order of their end is here.

Knows nothing of the public API; worker.py is its only user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from campaign_worker.errors import RedisAway
from campaign_worker.queue.blocker import Blocker
from campaign_worker.queue.clock import RedisClock
from campaign_worker.queue.desk import JobDesk
from campaign_worker.queue.fetch import Fetcher
from campaign_worker.queue.finish import Finisher
from campaign_worker.queue.flight import Tokens
from campaign_worker.queue.home import Home
from campaign_worker.queue.housekeeping import Housekeeper
from campaign_worker.queue.intake import Intake
from campaign_worker.queue.iterations import Iterations
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.link import Link
from campaign_worker.queue.locks import HeldLock, LockRenewer, RenewalHooks
from campaign_worker.queue.orphans import return_orphans
from campaign_worker.queue.protocol import Protocol
from campaign_worker.queue.scripts import RARE, load_scripts
from campaign_worker.queue.slots import Slots
from campaign_worker.queue.stalled import StalledSweep
from campaign_worker.queue.writer import QueueJobWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from campaign_worker.queue.options import WorkerOptions
    from campaign_worker.queue.report import Reporter
    from campaign_worker.queue.scripts import Script
    from campaign_worker.queue.slots import Process
    from shutdown import Deadline

#: A claim may still be executed behind a proxy after its connection has ended here.
_SECOND_LOOK_SECONDS = 5.0
#: JavaScript's greatest whole number, which no limiter's maximum exceeds.
_NO_MORE_JOBS = 2**53 - 1


class Engine:
    """All parts of one worker on one queue."""

    def __init__(
        self, queue: str, process: Process, options: WorkerOptions, report: Reporter
    ) -> None:
        scripts = load_scripts()
        self._options = options
        self._report = report
        self.keys = keys = QueueKeys(queue, options.prefix)
        self.home = home = Home(options.connection, keys)
        self.clock = RedisClock()
        self.tokens = Tokens()
        self.intake = Intake(self.clock, options.maximum_rate_limit_delay_ms)
        self.protocol = Protocol(keys, options, scripts, self.clock)
        self.link = Link(
            home,
            self.clock,
            [script for name, script in scripts.items() if name not in RARE],
            on_connected=self._on_connected,
            on_up=self._on_up,
            on_error=report.error,
        )
        self.locks = LockRenewer(
            home,
            keys,
            scripts["extendLocks"],
            duration_ms=options.lock_duration_ms,
            renew_time_ms=options.lock_renew_time_ms,
            hooks=RenewalHooks(
                lost=self._on_lock_lost,
                renewed=report.locks_renewed,
                refused=report.locks_refused,
                failed=report.renewal_failed,
            ),
        )
        self.finisher = Finisher(self.link, self.protocol, keys, self.tokens)
        self.slots = Slots(queue, options, process, self.finisher, self.locks, self.intake, report)
        self.slots.writer = self.writer = self._job_writer(scripts)
        self.slots.iterations = self.iterations = self._iterations(scripts["updateJobScheduler"])
        self.fetcher = self._fetcher()
        self.slots.on_next = self.fetcher.take
        self.blocker = self._blocker(home)
        self.sweep = self._sweep()
        self.ready = asyncio.Event()
        #: Set when nothing that waits for Redis can hope any longer.
        self.stopped = asyncio.Event()
        self._connected_before = False
        self._sweeping = False
        self._second_look: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._link_task: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()

    def _job_writer(self, scripts: Mapping[str, Script]) -> QueueJobWriter:
        return QueueJobWriter(
            self.link,
            self.protocol,
            self.keys,
            scripts,
            desk=JobDesk(self.link, self.keys, scripts, self.clock),
            on_progress=lambda job, progress: self._report.emit("progress", job, progress),
        )

    def _iterations(self, script: Script) -> Iterations:
        strategy = self._options.repeat_strategy
        return Iterations(
            self.link, self.keys, script, self.clock, strategy, on_error=self._report.error
        )

    def _fetcher(self) -> Fetcher:
        fetcher = Fetcher(
            self.link,
            self.protocol,
            self.intake,
            self.tokens,
            self._report,
            has_room=self.slots.has_room,
            start=self.slots.start,
        )
        fetcher.block_seconds = self._options.drain_delay_seconds
        return fetcher

    def _blocker(self, home: Home) -> Blocker:
        return Blocker(
            home,
            self.keys.of("marker"),
            self.keys.client_name(self._options.name),
            on_marker=self._on_marker,
            on_nothing=self.intake.poke,
            block_seconds=self._options.drain_delay_seconds,
        )

    def _sweep(self) -> StalledSweep:
        return StalledSweep(
            self.link,
            self.protocol,
            self._options.stalled_interval_ms,
            wanted=lambda: not (self.intake.quiet or self.intake.paused),
            on_recovered=self._report.stalled,
            on_error=self._report.error,
        )

    def start(self) -> None:
        """Start everything; needs no Redis to be there yet."""
        if not self._options.skip_lock_renewal:
            self.locks.start()
        self._background("fetcher", self.fetcher.run(self.blocker))
        self.start_sweep()
        self.start_connections()

    def start_connections(self) -> None:
        """Start what a worker needs whose jobs are claimed by hand."""
        self._link_task = asyncio.create_task(self.link.run(), name="redis-link")
        self._background("blocker", self.blocker.run())
        self._background("housekeeping", Housekeeper(self.link, self.keys, self.intake).run())

    def start_sweep(self) -> None:
        """Start to return stalled jobs, unless that is not wanted or done already."""
        if not (self._options.skip_stalled_check or self._sweeping):
            self._sweeping = True
            self._background("stalled-sweep", self.sweep.run())

    def _background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._report_end)
        self._tasks.append(task)

    async def rate_limit(self, expire_ms: int) -> None:
        """Forbid claims of this queue for `expire_ms`, to all workers. Raises errors.RedisAway."""
        limiter = self.keys.of("limiter")
        await self.link.command("SET", limiter, _NO_MORE_JOBS, "PX", max(1, expire_ms))

    async def extend_locks(
        self, job_ids: Sequence[str], tokens: Sequence[str], duration_ms: int
    ) -> list[str]:
        """Script extendLocks; the ids that it refused. Raises errors.RedisAway."""
        refused = await self.link.execute(self.protocol.extend_locks(job_ids, tokens, duration_ms))
        return [str(job_id) for job_id in refused]

    def stop_intake(self) -> None:
        """End the block under way and put back the marker that this may have cost."""
        blocking = self.blocker.blocking
        self.blocker.interrupt()
        self.intake.changed.set()
        if blocking:
            self._errand(self._restore_marker())

    async def intake_settled(self) -> None:
        """Return when no claim, un-started job or marker is on its way. Unbounded."""
        while True:
            await self.tokens.all_answered()
            under_way = {*self.slots.returning, *self._errands}
            if not under_way:
                return
            await asyncio.wait(under_way)

    async def stop(self, deadline: Deadline) -> None:
        """End all tasks: intake, jobs that are left, locks, and the connection last. Bounded."""
        self.stopped.set()
        self._cancel_second_look()
        await self._cancel(self._tasks, deadline)
        left = [active.task for active in self.slots.active.values() if active.task is not None]
        await self._cancel([*left, *self.slots.returning, *self._errands], deadline)
        await self.locks.stop(deadline)
        if self._link_task is not None:
            await self._cancel([self._link_task], deadline)

    def abandon(self) -> None:
        """Let go of everything at once, waiting for nothing: the event loop is going down."""
        self.stopped.set()
        self.locks.halt()
        self._cancel_second_look()
        jobs = [active.task for active in self.slots.active.values() if active.task is not None]
        for task in (*self._tasks, *self._errands, *self.slots.returning, *jobs):
            task.cancel()
        if self._link_task is not None:
            self._link_task.cancel()

    def _cancel_second_look(self) -> None:
        if self._second_look is not None:
            self._second_look.cancel()

    async def _cancel(self, tasks: list[asyncio.Task[None]], deadline: Deadline) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=min(1.0, deadline.remaining()))

    async def _on_connected(self) -> None:
        if self._connected_before:
            await self._return_orphans()
            self._cancel_second_look()
            self._second_look = asyncio.get_running_loop().call_later(
                _SECOND_LOOK_SECONDS, lambda: self._errand(self._return_orphans())
            )
        self._connected_before = True

    def _on_up(self) -> None:
        self.ready.set()
        self.intake.poke()

    def _on_lock_lost(self, lock: HeldLock) -> None:
        self.slots.lock_lost(lock)

    def _on_marker(self, score: float) -> None:
        if not (self.intake.open and self.slots.has_room()):
            self._errand(self._restore_marker())
        elif score <= self.clock.now_ms():
            self.intake.poke()
        else:
            self.intake.note_due(int(score))

    async def _restore_marker(self) -> None:
        await self.link.execute(self.protocol.restore_marker())

    async def _return_orphans(self) -> None:
        await return_orphans(
            self.link,
            self.protocol,
            self.tokens,
            runs=self.slots.holds,
            on_returned=lambda _: self._report.handed_back("lost reply"),
            on_error=self._report.error,
        )

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._run_errand(work))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _run_errand(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (RedisAway, RedisError):
            # Markers are only a hint, and orphans are looked for again on the next connection.
            return

    def _report_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report.error(error)
