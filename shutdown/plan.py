"""The way out as ordered phases under one deadline. Owns order, bounds, timing and report.

Whatever a phase does, the next ones have their turn; what a phase means is the caller's.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from shutdown.deadline import Deadline

logger = logging.getLogger(__name__)

UNWIND_SECONDS = 0.25
"""What a phase has for its own `finally` after it was cut; then the plan goes on without it."""


class PhaseResult(enum.Enum):
    """How a phase ended."""

    DONE = "done"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Phase:
    """One step. `reason` says why it stands where it stands.

    `run` gets the deadline of this phase: the plan's, moved `reserve_seconds` earlier, which is
    what the phases after it need. A phase whose time is over before it begins runs to its first
    await.
    """

    name: str
    reason: str
    run: Callable[[Deadline], Coroutine[Any, Any, object]]
    reserve_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What became of a phase: wall seconds, and the error if it failed."""

    name: str
    seconds: float
    result: PhaseResult
    error: BaseException | None = None


class Plan:
    """Runs phases in order. `on_phase_end` is told of each; what it raises is logged, no more."""

    def __init__(
        self,
        phases: Sequence[Phase],
        on_phase_end: Callable[[PhaseReport], None] | None = None,
    ) -> None:
        self._phases = tuple(phases)
        self._on_phase_end = on_phase_end

    async def run(self, deadline: Deadline) -> list[PhaseReport]:
        """Run every phase and report each.

        Raises nothing but CancelledError: a cancelled plan cuts the phase it is in, gives the
        others their turn, and raises when all had it.
        """
        reports: list[PhaseReport] = []
        cancelled: asyncio.CancelledError | None = None
        for phase in self._phases:
            report, interruption = await _run(phase, deadline.sooner(phase.reserve_seconds))
            cancelled = cancelled or interruption
            reports.append(report)
            self._tell(report)
        if cancelled is not None:
            raise cancelled
        return reports

    def _tell(self, report: PhaseReport) -> None:
        logger.log(
            logging.INFO if report.result is PhaseResult.DONE else logging.ERROR,
            "shutdown phase ended",
            extra={
                "phase": report.name,
                "result": report.result.value,
                "seconds": round(report.seconds, 3),
            },
            exc_info=report.error if isinstance(report.error, Exception) else None,
        )
        if self._on_phase_end is None:
            return
        try:
            self._on_phase_end(report)
        except Exception:
            logger.exception("a listener of shutdown phases failed", extra={"phase": report.name})


async def _run(
    phase: Phase, deadline: Deadline
) -> tuple[PhaseReport, asyncio.CancelledError | None]:
    """Run one phase; the second value is the cancellation of the plan, if it came meanwhile."""
    began = time.monotonic()
    task = asyncio.create_task(_guarded(phase, deadline), name=f"shutdown phase {phase.name}")
    interruption = await _settled(task, deadline.remaining())
    overtime = not task.done() and interruption is None
    if not task.done():
        task.cancel()
        # A phase that ignores its cancellation must not keep the others from theirs.
        interruption = await _settled(task, UNWIND_SECONDS) or interruption
    result, error = _outcome(task, overtime=overtime)
    return PhaseReport(phase.name, time.monotonic() - began, result, error), interruption


async def _guarded(phase: Phase, deadline: Deadline) -> None:
    """Run the phase as a coroutine even where calling it already raises."""
    await phase.run(deadline)


async def _settled(task: asyncio.Task[None], seconds: float) -> asyncio.CancelledError | None:
    """Wait for the task, at most `seconds`; the caller's own cancellation is handed back to it."""
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError as interruption:
        return interruption
    return None


def _outcome(
    task: asyncio.Task[None], *, overtime: bool
) -> tuple[PhaseResult, BaseException | None]:
    if not task.done():
        task.add_done_callback(_retrieve)
        return PhaseResult.TIMED_OUT, None
    if task.cancelled():
        if overtime:
            return PhaseResult.TIMED_OUT, None
        return PhaseResult.FAILED, asyncio.CancelledError()
    error = task.exception()
    if overtime:
        return PhaseResult.TIMED_OUT, error
    if error is not None:
        return PhaseResult.FAILED, error
    return PhaseResult.DONE, None


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take the late result of an abandoned phase, so that nobody is told it was never retrieved."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("an abandoned shutdown phase failed late", exc_info=error)
