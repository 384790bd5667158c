"""What jobs tell our Worker to do: the same as worker.mjs makes of the same words."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import redis.asyncio

from campaign_worker.queue import (
    DelayedError,
    Job,
    UnrecoverableError,
    WaitingChildrenError,
    WaitingError,
    Worker,
)
from tests.support import eventually

VALUES: dict[str, Any] = {
    "nothing": None,
    "values": [
        *(True, 7, 1.5, "größer", None, {"deep": [float("nan"), float("inf")]}),
        *(datetime.fromtimestamp(0, UTC), b"ab"),
    ],
    "text": "text",
    "false": False,
}


async def backoff(attempt: int, kind: str, error: BaseException, job: Job) -> float:
    """Do what worker.mjs does."""
    return -1 if attempt > 2 else 10 * attempt


class Plans:
    """The processor of one queue, and its listener."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix
        self._retries: set[asyncio.Task[None]] = set()
        self.worker: Worker | None = None

    def attach(self, worker: Worker) -> Worker:
        self.worker = worker
        worker.on("failed", self._failed)
        return worker

    async def process(self, job: Job, token: str) -> Any:
        """Do what worker.mjs does."""
        plan = job.data.get("plan", ["complete"])
        what = plan[min(job.attempts_started, len(plan)) - 1]
        if what in VALUES:
            return VALUES[what]
        act = getattr(self, "_" + what.replace(" ", "_"))
        return await act(job, token)

    def _failed(self, job: Job, error: BaseException, _prev: str) -> None:
        if str(error) == "for now" and job.attempts_started == 1:
            retry = asyncio.create_task(job.retry("failed", {"resetAttemptsMade": True}))
            self._retries.add(retry)
            retry.add_done_callback(self._retries.discard)

    async def _complete(self, job: Job, _: str) -> Any:
        return {"outcome": "sent", "text": "größer", "attempt": job.attempts_made}

    async def _fail(self, job: Job, _: str) -> None:
        raise RuntimeError(f"no, attempt {job.attempts_made}")

    async def _give_up(self, _job: Job, _: str) -> None:
        raise UnrecoverableError("never")

    async def _report(self, job: Job, _: str) -> str:
        await job.update_progress({"done": 50})
        await job.log("half-way")
        await job.update_data({**job.data, "changed": True})
        return "reported"

    async def _wait(self, job: Job, token: str) -> None:
        await job.move_to_wait(token)
        raise WaitingError

    async def _progress(self, job: Job, _: str) -> int:
        for progress in (10, "half", True):
            await job.update_progress(progress)
        return 0

    async def _later(self, job: Job, token: str) -> None:
        await job.move_to_delayed(_now_ms() + 50, token)
        raise DelayedError

    async def _ask(self, job: Any, _: str) -> dict[str, Any]:
        # By Node's names, which are part of what is offered.
        one, other = {"processed": {"cursor": 0, "count": 5}, "failed": {"count": 5}}, {"count": 5}
        return {
            "values": await job.getChildrenValues(),
            "ignored": await job.getIgnoredChildrenFailures(),
            "failed": await job.getFailedChildrenValues(),
            "dependencies": await job.getDependencies(),
            "page": await job.getDependencies(one),
            "rest": await job.getDependencies({"unprocessed": other, "ignored": other}),
            "counts": await job.getDependenciesCount(),
            "some": await job.getDependenciesCount({"processed": True, "failed": True}),
            "state": await job.getState(),
            "is": [
                await job.isActive(),
                await job.isCompleted(),
                await job.isFailed(),
                await job.isDelayed(),
                await job.isWaiting(),
                await job.isWaitingChildren(),
            ],
        }

    async def _hold(self, job: Job, _: str) -> str:
        await self._released(job)
        return "held"

    async def _hold_and_fail(self, job: Job, _: str) -> None:
        await self._released(job)
        raise RuntimeError("held")

    async def _for_now(self, _job: Job, _: str) -> None:
        raise RuntimeError("for now")

    async def _children(self, job: Job, token: str) -> str:
        if await job.move_to_waiting_children(token):
            raise WaitingChildrenError
        return "no children"

    async def _one_child(self, job: Job, token: str) -> str:
        child = {"id": "kid", "queue": f"{self._prefix}:{job.queue_name}"}
        if await job.move_to_waiting_children(token, {"child": child}):
            raise WaitingChildrenError
        return "no such child"

    async def _limit(self, _job: Job, _: str) -> None:
        worker: Any = self._bound()
        await worker.rateLimit(60)
        raise Worker.RateLimitError

    async def _move_delay(self, job: Job, token: str) -> None:
        await job.move_to_delayed(_now_ms() + 60_000, token)
        await job.change_delay(20)
        raise DelayedError

    async def _promote(self, job: Job, token: str) -> None:
        await job.move_to_delayed(_now_ms() + 60_000, token)
        await job.promote()
        raise DelayedError

    async def _move_up(self, job: Job, token: str) -> None:
        await job.move_to_wait(token)
        await job.change_priority({"priority": 7})
        raise WaitingError

    async def _remove(self, job: Job, token: str) -> None:
        await job.move_to_wait(token)
        await job.remove()
        raise WaitingError

    async def _drop_children(self, job: Job, _: str) -> dict[str, int]:
        await job.remove_unprocessed_children()
        return await job.get_dependencies_count()

    async def _leave_parent(self, job: Job, _: str) -> list[Any]:
        return [await job.remove_child_dependency(), job.parent_key]

    async def _let_others_in(self, job: Job, _: str) -> list[Any]:
        return [job.deduplication_id, await job.remove_deduplication_key()]

    async def _clear_logs(self, job: Job, _: str) -> str:
        for row in ("a", "b", "c"):
            await job.log(row)
        await job.clear_logs(2)
        return "cleared"

    async def _extend(self, job: Job, token: str) -> list[Any]:
        worker = self._bound()
        return [
            await worker.extend_job_locks([job.id], [token], 9000),
            await worker.extend_job_locks([job.id], ["other"], 9000),
            int(await job.extend_lock(token, 9000)),
        ]

    async def _options(self, job: Job, _: str) -> dict[str, Any]:
        names = ("repeat", "telemetry", "deduplication", "keepLogs", "attempts")
        return {name: job.opts[name] for name in names if name in job.opts}

    async def _released(self, job: Job) -> None:
        key = f"{self._prefix}:{job.queue_name}:{job.id}"

        async def told() -> bool:
            return '"go":true' in str(await self._client.hget(key, "data"))

        await eventually(told, 20)

    def _bound(self) -> Worker:
        assert self.worker is not None
        return self.worker


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
