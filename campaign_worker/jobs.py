"""Mail jobs over BullMQ producers: the adapter between what is to be sent and where jobs live."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio as aioredis

from campaign_worker.queue.producer import JobSpec, Producer
from campaign_worker.sequence.jobs import MailJob


class MailQueue:
    """Fulfils sequence's JobQueue and watch's Countable over one queue. Raises errors.RedisAway."""

    def __init__(self, client: aioredis.Redis, queue: str, prefix: str) -> None:
        self._producer = Producer(client, queue, prefix)

    async def add(self, job: MailJob) -> None:
        """Add a job; adding a known id again changes nothing."""
        await self._producer.add_many([_spec(job)])

    async def revive(self, jobs: Sequence[MailJob]) -> list[bool]:
        """Give each job life: add it, or bring it back; whether it needed that."""
        states = await self._producer.revive([_spec(job) for job in jobs])
        return [state != "untouched" for state in states]

    async def revive_known(self, job_ids: Sequence[str]) -> list[bool | None]:
        """Bring back jobs that exist: whether each needed it, None where there is none."""
        found = await self._producer.revive_known(job_ids)
        return [None if state == "absent" else state != "untouched" for state in found]

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        return await self._producer.counts()


def _spec(job: MailJob) -> JobSpec:
    return JobSpec(job.name, job.data, job.id, job.options, round(job.delay_seconds * 1000))
