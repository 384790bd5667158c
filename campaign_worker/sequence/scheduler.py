"""Rows into jobs: the follow-up after a settle, and rows that were found without a job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from campaign_worker.delivery.ports import JobView
from campaign_worker.delivery.reconciler import DueRow
from campaign_worker.delivery.settlements import NextStep
from campaign_worker.errors import RedisAway
from campaign_worker.sequence.jobs import MailJob, inline_job, mail_job

log = structlog.get_logger(__name__)


class JobQueue(Protocol):
    """What this module needs of a queue. Raises errors.RedisAway."""

    async def add(self, job: MailJob) -> None:
        """Add a job; adding a known id again changes nothing."""
        ...

    async def revive(self, jobs: Sequence[MailJob]) -> list[bool]:
        """Give each job life: add it, or bring it back; whether it needed that."""
        ...

    async def revive_known(self, job_ids: Sequence[str]) -> list[bool | None]:
        """Bring back jobs that exist: whether each needed it, None where there is none."""
        ...


class Scheduler:
    """Fulfils delivery's NextSteps and Revival over the queues by name."""

    def __init__(self, queue_of: Callable[[str], JobQueue], default_queue: str) -> None:
        self._queue_of = queue_of
        self._default_queue = default_queue

    async def add(self, step: NextStep, job: JobView) -> None:
        """Add the follow-up's job beside the job of the step before it.

        While Redis is away nothing is added: the row is there, and the reconciler adds the job.
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
        except RedisAway:
            log.warning("follow-up left to the reconciler", follow_up=follow_up.id)

    async def revive(self, rows: Sequence[DueRow]) -> int:
        """Give each row a live job unless it has one; how many needed it."""
        by_queue: dict[str, list[DueRow]] = defaultdict(list)
        for row in rows:
            by_queue[row.queue or self._default_queue].append(row)
        return sum([await _revive(self._queue_of(name), few) for name, few in by_queue.items()])


async def _revive(queue: JobQueue, rows: Sequence[DueRow]) -> int:
    """Look first under the id that the app gave; a row's job may also be one of ours by now."""
    jobs = {row.id: _job_of(row) for row in rows}
    foreign = {row.id: row.job_id for row in rows if row.job_id not in (None, jobs[row.id].id)}
    found = dict(
        zip(foreign, await queue.revive_known([str(one) for one in foreign.values()]), strict=True)
    )
    ours = [jobs[row.id] for row in rows if found.get(row.id) is None]
    return sum(bool(needed) for needed in (*found.values(), *await queue.revive(ours)))


def _job_of(row: DueRow) -> MailJob:
    if row.inline is not None and row.idempotency_key is not None:
        return inline_job(row.id, row.idempotency_key, row.campaign_id, row.inline)
    if row.campaign_id is None or row.recipient_id is None:
        raise AssertionError("the schema lets no row be neither a campaign's nor self-contained")
    return mail_job(row.campaign_id, row.recipient_id, row.step)
