"""The part of a job's API that asks or changes what is in Redis about it, as in Node's Job class.

Runs nothing and knows no script: desk.py does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from campaign_worker.queue.desk import Finished, JobDesk


class JobCalls:
    """Methods of Job. All raise errors.RedisAway, and RuntimeError on a job of no worker.

    Options are dicts with Node's names.
    """

    __slots__ = (
        *("id", "opts", "parent", "parent_key", "delay", "priority", "attempts_made"),
        *("attempts_started", "processed_on", "finished_on", "failed_reason", "return_value"),
    )

    id: str
    opts: dict[str, Any]
    parent: dict[str, Any] | None
    parent_key: str | None
    delay: int
    priority: int
    attempts_made: int
    attempts_started: int
    processed_on: int | None
    finished_on: int | None
    failed_reason: str | None
    return_value: Any

    def _desk(self) -> JobDesk:
        raise RuntimeError("this job is not running in a worker")

    @property
    def deduplication_id(self) -> str | None:
        """`opts.deduplication.id`."""
        deduplication = self.opts.get("deduplication")
        return deduplication.get("id") if isinstance(deduplication, dict) else None

    async def get_state(self) -> str:
        """Return completed, failed, delayed, prioritized, active, waiting, ... or unknown."""
        return await self._desk().state(self.id)

    async def is_completed(self) -> bool:
        """Tell whether the job has completed."""
        return await self.get_state() == "completed"

    async def is_failed(self) -> bool:
        """Tell whether the job has failed for good."""
        return await self.get_state() == "failed"

    async def is_delayed(self) -> bool:
        """Tell whether the job is delayed."""
        return await self.get_state() == "delayed"

    async def is_waiting(self) -> bool:
        """Tell whether the job waits, also in a paused queue; a prioritized one does not count."""
        return await self.get_state() == "waiting"

    async def is_active(self) -> bool:
        """Tell whether the job is active, here or elsewhere."""
        return await self.get_state() == "active"

    async def is_waiting_children(self) -> bool:
        """Tell whether the job waits for its children."""
        return await self.get_state() == "waiting-children"

    async def get_children_values(self) -> dict[str, Any]:
        """Return the results of the children that have completed, by their keys in Redis."""
        return await self._desk().children_values(self.id)

    async def get_ignored_children_failures(self) -> dict[str, str]:
        """Return the reasons of ignored failures of children, by their keys in Redis."""
        return await self._desk().ignored_failures(self.id)

    async def get_dependencies(self, opts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return children as `{processed, unprocessed, ignored, failed}`, or one page of each."""
        return await self._desk().dependencies(self.id, opts or {})

    async def get_dependencies_count(self, opts: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Count the children of each kind, or of those that `opts` says True to."""
        return await self._desk().dependencies_count(self.id, opts or {})

    async def remove_unprocessed_children(self) -> None:
        """Remove the children that have neither ended nor are active."""
        await self._desk().remove_unprocessed_children(self.id)

    async def remove_child_dependency(self) -> bool:
        """Let the parent wait for this job no longer; False if it did not.

        Raises errors.JobGone, errors.JobRefused.
        """
        if self.parent_key is None:
            return False
        removed = await self._desk().remove_child_dependency(self.id, self.parent_key)
        if removed:
            self.parent = self.parent_key = None
        return removed

    async def remove_deduplication_key(self) -> bool:
        """Let the next job with the same deduplication id in; False if this job holds none back."""
        held_by = self.deduplication_id
        return bool(held_by) and await self._desk().remove_deduplication_key(self.id, str(held_by))

    async def change_delay(self, delay_ms: int) -> None:
        """Put a delayed job off until `delay_ms` from now. Raises errors.JobGone, JobRefused."""
        await self._desk().change_delay(self.id, delay_ms)
        self.delay = delay_ms

    async def change_priority(self, opts: Mapping[str, Any]) -> None:
        """Change `{priority, lifo}` of a waiting job. Raises errors.JobGone."""
        priority = int(opts.get("priority") or 0)
        await self._desk().change_priority(self.id, priority, lifo=bool(opts.get("lifo")))
        self.priority = priority

    async def promote(self) -> None:
        """Let a delayed job run at once. Raises errors.JobRefused."""
        await self._desk().promote(self.id)
        self.delay = 0

    async def retry(
        self, state: Finished = "failed", opts: Mapping[str, Any] | None = None
    ) -> None:
        """Run an ended job again; `opts`: `{resetAttemptsMade, resetAttemptsStarted}`.

        Raises errors.JobGone, errors.JobRefused.
        """
        given = opts or {}
        made, started = bool(given.get("resetAttemptsMade")), given.get("resetAttemptsStarted")
        await self._desk().retry(
            self.id, state, lifo=bool(self.opts.get("lifo")), made=made, started=bool(started)
        )
        self.failed_reason = self.finished_on = self.processed_on = self.return_value = None
        if made:
            self.attempts_made = 0
        if started:
            self.attempts_started = 0

    async def remove(self, opts: Mapping[str, Any] | None = None) -> None:
        """Remove the job and, but for `{removeChildren: False}`, its children.

        Raises errors.JobRefused while it is active, and for the next job of a scheduler.
        """
        await self._desk().remove(self.id, children=(opts or {}).get("removeChildren", True))

    async def clear_logs(self, keep_logs: int | None = None) -> None:
        """Remove the job's log but for its last rows."""
        await self._desk().clear_logs(self.id, keep_logs)
