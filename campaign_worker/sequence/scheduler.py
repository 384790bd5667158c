"""Rows into jobs: the follow-up after a settle, and rows that were found without a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from campaign_worker.delivery.ports import JobView
from campaign_worker.delivery.revival import DueRow
from campaign_worker.delivery.settlements import NextStep
from campaign_worker.errors import Away
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.sequence.sweep import JobQueue, QueueSweep, WholeRows

log = structlog.get_logger(__name__)


class Epochs(Protocol):
    """The epoch keys of our queues. Raises errors.RedisAway."""

    @property
    def queues(self) -> Sequence[str]:
        """Names of our queues."""
        ...

    async def read(self) -> Mapping[str, str | None]:
        """Read each; None where there is none."""
        ...

    async def write(self, queue: str, epoch: str, *, instead_of: str | None) -> bool:
        """Write one, in place of what is expected there; False when it said something else."""
        ...


class Scheduler:
    """Fulfils delivery's NextSteps and Revival over the queues by name."""

    def __init__(
        self,
        queue_of: Callable[[str], JobQueue],
        default_queue: str,
        epochs: Epochs,
        whole_rows: WholeRows,
    ) -> None:
        self._queue_of = queue_of
        self._default_queue = default_queue
        self._epochs = epochs
        self._whole_rows = whole_rows

    async def add(self, step: NextStep, job: JobView) -> None:
        """Add the follow-up's job beside the job of the step before it.

        While a server is away nothing is added, and nothing whose options cannot be inherited: the
        row is there, and the reconciler adds the job.
        """
        follow_up = mail_job(
            step.campaign_id,
            step.recipient_id,
            step.step,
            delay_seconds=step.due_in_seconds,
            like=job.opts,
        )
        try:
            await self._queue_of(job.queue_name).add(follow_up)
        except Away:
            log.warning("follow-up left to the reconciler", follow_up=follow_up.id)
        except Exception:
            # Options that the app's BullMQ takes and ours refuses: the mail before has gone out.
            log.exception("follow-up left to the reconciler", follow_up=follow_up.id)

    def sweep(self) -> QueueSweep:
        """Begin a look over the queues."""
        return QueueSweep(self._queue_of, self._default_queue, self._whole_rows)

    async def revive(self, rows: Sequence[DueRow]) -> int:
        """Give each row a live job unless it has one; how many needed it."""
        return await self.sweep().revive(rows)

    async def call_back(self, campaign_id: int, limit: int) -> int | None:
        """Wake jobs that were put off without a look at their rows; None when none are left."""
        for queue in self._epochs.queues:
            called = await self._queue_of(queue).call_back(campaign_id, limit)
            if called is not None:
                return called
        return None

    async def epochs(self) -> Mapping[str, str | None]:
        """Read the epoch key of each of our queues; None where there is none."""
        return await self._epochs.read()

    async def write_epoch(self, queue: str, epoch: str, *, instead_of: str | None) -> bool:
        """Write one, in place of what is expected there; False when it said something else."""
        return await self._epochs.write(queue, epoch, instead_of=instead_of)
