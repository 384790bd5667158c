"""The way out: the order of the stop, the reason for each step, and what became of every job.

One deadline, stamped by the first signal; each phase gets what is left of it. Owns no resource.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from campaign_worker.queue import AbortReason, Worker
from metrics import Event, JobEnded, JobsAtStop, Listener, MailSent, ShutdownPhaseEnded
from shutdown import Deadline, ExitCode, Phase, PhaseReport, Plan, Signals, StopLevel, unless

log = structlog.get_logger(__name__)

ABORT_SHARE = 0.25
ABORT_SECONDS_MOST = 5.0
"""Reserve for handing back and writing: a quarter of the budget, 5 s at most."""

HURRIED_PHASE_SECONDS = 2.0
"""What a phase after a second signal may take at most, however much of the budget is left."""


class Closing(Protocol):
    """Something that is closed within a deadline."""

    async def close(self, deadline: Deadline) -> None:
        """Close; what is not done by then is dropped."""
        ...


class Stoppable(Protocol):
    """A service."""

    async def stop(self) -> None:
        """Return when it has stopped."""
        ...


class Tally:
    """A listener that counts what became of jobs since the stop began."""

    def __init__(self) -> None:
        self._stopping = False
        self.ended: Counter[str] = Counter()
        self.in_doubt = 0

    def begin(self) -> None:
        """Count from now on."""
        self._stopping = True

    def on_event(self, event: Event) -> None:
        """Take note of one event."""
        if not self._stopping:
            return
        if isinstance(event, JobEnded):
            self.ended[event.outcome] += 1
        elif isinstance(event, MailSent) and event.result in ("unknown", "cut_off"):
            self.in_doubt += 1

    @property
    def handed_back(self) -> int:
        """Jobs that went back to the head of their queue."""
        return self.ended["handed back"]

    @property
    def abandoned(self) -> int:
        """Jobs whose ending could not be written."""
        return self.ended["lost"] + self.ended["abandoned"]

    @property
    def finished(self) -> int:
        """Jobs that came to an end of their own: completed, failed, retried, deferred."""
        return self.ended.total() - self.handed_back - self.abandoned


@dataclass(frozen=True, slots=True)
class Stop:
    """All that a stop needs, in the order in which it is let go."""

    workers: Sequence[Worker]
    background: Sequence[Stoppable]
    ledger: Closing
    leases: Stoppable
    slowest: Stoppable
    transports: Sequence[Closing]
    database: Closing
    signals: Signals
    tally: Tally
    listener: Listener

    async def run(self, deadline: Deadline) -> ExitCode:
        """Stop everything; the exit code says whether anything was cut short."""
        in_flight = sum(worker.active_jobs for worker in self.workers)
        log.info("stopping", in_flight=in_flight, budget_seconds=round(deadline.remaining(), 1))
        self.tally.begin()
        reserve = min(deadline.remaining() * ABORT_SHARE, ABORT_SECONDS_MOST)
        reports = await Plan(self._phases(reserve), self._report).run(deadline)
        fates = self._fates()
        log.info(
            "worker stopped",
            in_flight_at_signal=in_flight,
            **dataclasses.asdict(fates),
            phases={report.name: round(report.seconds, 3) for report in reports},
        )
        if self.signals.level >= StopLevel.EXIT:
            return ExitCode.FORCED
        # As the watchdog would have said it: the time was over and they were not.
        return ExitCode.WATCHDOG if fates.abandoned else ExitCode.OK

    def _phases(self, reserve: float) -> list[Phase]:
        return [
            Phase(
                "quiet",
                "nothing new may be claimed; a claim under way is handed back",
                self._quiet,
                reserve,
            ),
            Phase(
                "background",
                "nobody else may make work for those who drain",
                self._background,
                reserve,
            ),
            Phase(
                "drain",
                "active jobs finish, with their locks and leases renewed",
                self._drain,
                reserve,
            ),
            Phase(
                "abort",
                "what has not begun to send stops and is handed back",
                self._abort,
                reserve / 2,
            ),
            Phase(
                "flush",
                "what Postgres is still to be told comes before its pool closes",
                self._flush,
                reserve / 3,
            ),
            Phase("smtp", "no mail can be under way any more", self._close_transports, reserve / 4),
            Phase("postgres", "after the last settle", self._close_database, reserve / 5),
            # What is kept back here is for the last line, before the watchdog has the last word.
            Phase(
                "redis",
                "last: locks protect jobs until nothing runs",
                self._close_workers,
                reserve / 6,
            ),
        ]

    async def _quiet(self, deadline: Deadline) -> None:
        for worker in self.workers:
            worker.quiet()
        for worker in self.workers:
            await worker.settle_intake(deadline)

    async def _background(self, _deadline: Deadline) -> None:
        for service in self.background:
            await service.stop()

    async def _drain(self, deadline: Deadline) -> None:
        async def drained() -> None:
            for worker in self.workers:
                await worker.drain(deadline)

        # A second signal: no more waiting.
        await unless(drained(), self.signals.escalated(StopLevel.ABORT))

    async def _abort(self, deadline: Deadline) -> None:
        deadline = self._hurried(deadline)
        for worker in self.workers:
            worker.abort(AbortReason.SHUTDOWN)
        # Side by side: no queue may use up what the others have to hand back in.
        await asyncio.gather(*(_end_jobs(worker, deadline) for worker in self.workers))

    async def _flush(self, deadline: Deadline) -> None:
        await self.ledger.close(self._hurried(deadline))
        await self.leases.stop()
        await self.slowest.stop()

    async def _close_transports(self, deadline: Deadline) -> None:
        for transport in self.transports:
            await transport.close(self._hurried(deadline))

    async def _close_database(self, deadline: Deadline) -> None:
        await self.database.close(self._hurried(deadline))

    async def _close_workers(self, deadline: Deadline) -> None:
        deadline = self._hurried(deadline)
        await asyncio.gather(*(worker.close(deadline=deadline) for worker in self.workers))

    def _hurried(self, deadline: Deadline) -> Deadline:
        if self.signals.level < StopLevel.ABORT:
            return deadline
        return deadline.at_most(HURRIED_PHASE_SECONDS)

    def _report(self, report: PhaseReport) -> None:
        event = ShutdownPhaseEnded(report.name, report.seconds, report.result.value)
        self.listener.on_event(event)
        # After each phase, not at the end: nobody could fetch it then.
        self.listener.on_event(self._fates())

    def _fates(self) -> JobsAtStop:
        """Say what became of jobs so far; those that are still active count as abandoned."""
        tally = self.tally
        left = sum(worker.active_jobs for worker in self.workers) + tally.abandoned
        return JobsAtStop(tally.finished, tally.handed_back, tally.in_doubt, left)


async def _end_jobs(worker: Worker, deadline: Deadline) -> None:
    if not await worker.drain(deadline.sooner(deadline.remaining() / 2)):
        await worker.hand_back(deadline)
