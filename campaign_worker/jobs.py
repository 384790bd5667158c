"""Mail jobs over BullMQ producers: the adapter between what is to be sent and where jobs live."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from campaign_worker.delivery.payload import CAMPAIGN_FIELDS, KNOWN_JOBS
from campaign_worker.errors import RedisAway
from campaign_worker.queue.aside import Group
from campaign_worker.queue.producer import JobSpec, Producer
from campaign_worker.queue.survey import Survey
from campaign_worker.sequence.jobs import MailJob

T = TypeVar("T")
Form = tuple[str, dict[str, Any]]


class Forms(Protocol):
    """The form of an app's own jobs. Raises errors.DatabaseAway."""

    async def __call__(self, queue: str, jobs: Sequence[Form]) -> Sequence[Form]:
        """Give name and data of each job of ours, as a job of `queue`."""
        ...

    async def jobs_of(
        self, queue: str, campaign_id: int
    ) -> tuple[str, tuple[str, ...], tuple[str, ...]] | None:
        """Tell a campaign's jobs: its id in the app, their names, the fields that may hold it."""
        ...


_WRITE_EPOCH = """
if (redis.call("GET", KEYS[1]) or "") ~= ARGV[1] then
  return 0
end
redis.call("SET", KEYS[1], ARGV[2])
return 1
"""


class MailQueue:
    """Fulfils sequence's JobQueue and watch's Countable over one queue. Raises errors.RedisAway.

    Also for a Redis that answers and refuses, as it is full or cannot write to its disk.
    `forms` gives jobs the form of an app's own, by its contract; what adds jobs may then also raise
    errors.DatabaseAway.
    """

    def __init__(
        self, client: aioredis.Redis, queue: str, prefix: str, forms: Forms | None = None
    ) -> None:
        self._queue = queue
        self._forms = forms
        self._producer = Producer(client, queue, prefix)

    async def add(self, job: MailJob) -> None:
        """Add a job; adding a known id again changes nothing."""
        await self.add_all([job])

    async def add_all(self, jobs: Sequence[MailJob]) -> None:
        """Add several; those whose id is known change nothing."""
        specs = await self._specs(jobs)
        await _answered(lambda: self._producer.add_many(specs))

    async def revive(self, jobs: Sequence[MailJob]) -> list[bool]:
        """Give each job life: add it, or bring it back; whether it needed that."""
        specs = await self._specs(jobs)
        states = await _answered(lambda: self._producer.revive(specs))
        return [state != "untouched" for state in states]

    async def revive_known(self, job_ids: Sequence[str]) -> list[bool | None]:
        """Bring back jobs that exist: whether each needed it, None where there is none."""
        found = await _answered(lambda: self._producer.revive_known(job_ids))
        return [None if state == "absent" else state != "untouched" for state in found]

    async def promote(self, job_ids: Sequence[str]) -> int:
        """Let delayed jobs run at once; how many were delayed."""
        return await _answered(lambda: self._producer.promote(job_ids))

    def survey(self) -> Survey:
        """Begin a look over the queue for many jobs."""
        return self._producer.survey()

    async def put_off(
        self, campaign_id: int, *, delay_seconds: float, spread_seconds: float
    ) -> tuple[int, int]:
        """Put off a campaign's jobs among the oldest that wait; (looked at, put off)."""
        group = await self._group(campaign_id)
        if group is None:
            return 0, 0
        return await _answered(
            lambda: self._producer.aside().put_off(
                group,
                delay_ms=round(delay_seconds * 1000),
                spread_ms=round(spread_seconds * 1000),
            )
        )

    async def call_back(self, campaign_id: int, limit: int) -> int | None:
        """Let jobs run at once that were put off; how many did, None when none are left."""
        aside = self._producer.aside()
        return await _answered(lambda: aside.call_back(str(campaign_id), limit))

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        return await _answered(self._producer.counts)

    async def _group(self, campaign_id: int) -> Group | None:
        if self._forms is None:
            return Group(str(campaign_id), KNOWN_JOBS, CAMPAIGN_FIELDS)
        found = await self._forms.jobs_of(self._queue, campaign_id)
        return None if found is None else Group(*found, noted=str(campaign_id))

    async def _specs(self, jobs: Sequence[MailJob]) -> list[JobSpec]:
        if self._forms is None or not jobs:
            return [_spec(job) for job in jobs]
        forms = await self._forms(self._queue, [(job.name, job.data) for job in jobs])
        return [
            _spec(dataclasses.replace(job, name=name, data=data))
            for job, (name, data) in zip(jobs, forms, strict=True)
        ]


class QueueEpochs:
    """The epoch keys of some queues: words that vanish with what else Redis loses."""

    def __init__(self, client: aioredis.Redis, queues: Sequence[str], prefix: str) -> None:
        self._client = client
        self._write = client.register_script(_WRITE_EPOCH)
        self._keys = {queue: f"{prefix}:campaign-worker:epoch:{queue}" for queue in queues}

    @property
    def queues(self) -> Sequence[str]:
        """Names of the queues."""
        return tuple(self._keys)

    async def read(self) -> Mapping[str, str | None]:
        """Read each key; None where there is none. Raises RedisAway."""
        found: list[Any] = await _answered(lambda: self._client.mget(list(self._keys.values())))
        return {
            queue: value.decode() if isinstance(value, bytes) else value
            for queue, value in zip(self._keys, found, strict=True)
        }

    async def write(self, queue: str, epoch: str, *, instead_of: str | None) -> bool:
        """Write one, in place of what is expected there; False when it said something else."""
        arguments = [instead_of or "", epoch]
        return bool(await _answered(lambda: self._write(keys=[self._keys[queue]], args=arguments)))


async def _answered(ask: Callable[[], Awaitable[T]]) -> T:
    try:
        return await ask()
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisAway(f"Redis: {error}") from error


def _spec(job: MailJob) -> JobSpec:
    return JobSpec(job.name, job.data, job.id, job.options, round(job.delay_seconds * 1000))
