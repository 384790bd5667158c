"""What a running job writes to Redis meanwhile: progress, logs, data, and moving itself away."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from campaign_worker.errors import JobGone, JobNotHeld, RedisAway
from campaign_worker.queue.control import UnrecoverableError
from campaign_worker.queue.finish import failed_child
from campaign_worker.queue.jsonvalue import clean_text, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from campaign_worker.queue.desk import JobDesk
    from campaign_worker.queue.endings import Json
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.protocol import Call, Protocol
    from campaign_worker.queue.scripts import Script

_GONE, _FAILED_CHILDREN = -1, -9

STALLED_TOO_OFTEN = "job stalled more than allowable limit"
"""What the sweep writes of a job beyond maxStalledCount (moveStalledJobsToWait-9.lua)."""


class QueueJobWriter:
    """Fulfils job.JobWriter over the worker's command connection.

    Every method raises errors.JobGone, errors.JobNotHeld where a lock is needed, errors.RedisAway.
    """

    def __init__(
        self,
        link: Link,
        protocol: Protocol,
        keys: QueueKeys,
        scripts: Mapping[str, Script],
        *,
        desk: JobDesk,
        on_progress: Callable[[Job, Json], None],
    ) -> None:
        self._link = link
        self._protocol = protocol
        self._keys = keys
        self._scripts = scripts
        self._on_progress = on_progress
        self.desk = desk

    async def update_progress(self, job: Job, progress: Json) -> None:
        """Script updateProgress."""
        keys = (self._keys.job(job.id), *self._keys.all_of("events", "meta"))
        text = to_json(progress)
        self._check(job, await self._link.call(self._scripts["updateProgress"], keys, job.id, text))
        self._on_progress(job, progress)

    async def add_log(self, job: Job, row: str) -> int:
        """Script addLog; keeps the last `opts.keepLogs` rows."""
        key = self._keys.job(job.id)
        keep = job.opts.get("keepLogs") or ""
        reply = await self._link.call(
            self._scripts["addLog"], (key, f"{key}:logs"), job.id, clean_text(row), keep
        )
        return self._check(job, reply)

    async def update_data(self, job: Job, data: Json) -> None:
        """Script updateData."""
        keys = (self._keys.job(job.id),)
        self._check(job, await self._link.call(self._scripts["updateData"], keys, to_json(data)))

    async def move_to_delayed(self, job: Job, until_ms: int, token: str) -> None:
        """Script moveToDelayed, no attempt counted."""
        await self._run(job, self._protocol.put_off(job, token, until_ms, fetch=False))

    async def move_to_wait(self, job: Job, token: str) -> int:
        """Script moveJobFromActiveToWait, and the marker that it spares prioritized jobs."""
        limited_ms = await self._run(job, self._protocol.hand_back(job.id, token))
        with contextlib.suppress(RedisAway, ResponseError):
            # Only a hint: the job has gone back, whatever becomes of it.
            await self._link.execute(self._protocol.restore_marker())
        return limited_ms

    async def move_to_waiting_children(self, job: Job, token: str, child_key: str) -> bool:
        """Script moveToWaitingChildren.

        Raises UnrecoverableError, as Node does, when a child that must not fail has failed.
        """
        code = await self._link.execute(self._protocol.wait_for_children(job.id, token, child_key))
        if code == _FAILED_CHILDREN:
            raise UnrecoverableError(failed_child(job.id, "moveToWaitingChildren"))
        return self._check(job, code) == 0

    async def extend_lock(self, job: Job, token: str, duration_ms: int) -> bool:
        """Script extendLock."""
        keys = (self._keys.lock(job.id), self._keys.of("stalled"))
        script = self._scripts["extendLock"]
        return bool(await self._link.call(script, keys, token, duration_ms, job.id))

    async def forgive_stall(self, job: Job) -> None:
        """Script forgiveStall."""
        key = self._keys.job(job.id)
        await self._link.call(self._scripts["forgiveStall"], (key,), STALLED_TOO_OFTEN)
        job.deferred_failure = None

    async def _run(self, job: Job, call: Call) -> int:
        return self._check(job, await self._link.execute(call))

    def _check(self, job: Job, reply: int) -> int:
        if reply == _GONE:
            raise JobGone(job.id)
        if reply < 0:
            raise JobNotHeld(job.id)
        return reply
