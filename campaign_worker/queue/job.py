"""The job as a processor sees it: a read model of the job's hash, and what it may write meanwhile.

Ends a job only where its user has claimed it by hand (manual.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from campaign_worker.errors import PayloadError
from campaign_worker.queue import nodenames
from campaign_worker.queue.endings import Completed, Failed
from campaign_worker.queue.jobcalls import JobCalls
from campaign_worker.queue.jobopts import STORED, bounded, from_stored
from campaign_worker.queue.jsonvalue import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from campaign_worker.queue.desk import JobDesk
    from campaign_worker.queue.endings import Ending, Json

#: What an ending with `fetch_next` brought: hash and id of the next job, or how long the rate
#: limit lasts (ms) and when the next delayed job is due (epoch ms).
NextJob: TypeAlias = tuple[dict[str, str] | None, str | None, int, int]


class JobWriter(Protocol):
    """What a running job needs from its queue; fulfilled by writer.QueueJobWriter."""

    desk: JobDesk

    async def update_progress(self, job: Job, progress: Json) -> None:
        """Store and publish the progress."""

    async def add_log(self, job: Job, row: str) -> int:
        """Append a row, return how many are kept."""

    async def update_data(self, job: Job, data: Json) -> None:
        """Replace the payload."""

    async def move_to_delayed(self, job: Job, until_ms: int, token: str) -> None:
        """Move the active job to delayed."""

    async def move_to_wait(self, job: Job, token: str) -> int:
        """Move the active job to the head of wait, return how long the queue is limited (ms)."""

    async def move_to_waiting_children(self, job: Job, token: str, child_key: str) -> bool:
        """Move the active job to waiting-children; False when no child is left to wait for."""

    async def extend_lock(self, job: Job, token: str, duration_ms: int) -> bool:
        """Give the lock another `duration_ms`; False when it is not ours."""


class JobEnder(Protocol):
    """Ends jobs that were claimed by hand; fulfilled by manual.Manual."""

    async def end(self, job: Job, ending: Ending, token: str, *, fetch: bool) -> NextJob | None:
        """End a job."""


class Job(JobCalls):
    """One job. Times are epoch milliseconds; `data` is the parsed JSON payload.

    `attempts_made` is `attemptsMade + atm`: bullmq 4 counted in the one field, 5 and later in the
    other. `opts` carries Node's long option names. camelCase names, as of Node and of the Python
    package, read the same attributes.
    """

    __slots__ = (
        "_ender",
        "_writer",
        "data",
        "deferred_failure",
        "name",
        "processed_by",
        "progress",
        "queue_name",
        "repeat_job_key",
        "stacktrace",
        "stalled_counter",
        "timestamp",
        "token",
    )

    def __init__(self, queue_name: str, job_id: str, raw: Mapping[str, str]) -> None:
        """Read the scalar fields of a job's hash; never raises, whatever the hash holds."""
        get = raw.get
        self._writer: JobWriter | None = None
        self._ender: JobEnder | None = None
        self.queue_name = queue_name
        self.id = job_id
        self.token: str | None = None
        self.name = get("name", "")
        self.data: Any = None
        self.opts: dict[str, Any] = {}
        self.timestamp = _integer(get("timestamp"))
        self.delay = _integer(get("delay"))
        self.priority = _integer(get("priority"))
        self.attempts_made = _integer(get("attemptsMade")) + _integer(get("atm"))
        self.attempts_started = _integer(get("ats"))
        self.stalled_counter = _integer(get("stc"))
        self.processed_on = _integer(get("processedOn")) or None
        self.finished_on = _integer(get("finishedOn")) or None
        self.processed_by = get("pb")
        self.failed_reason = get("failedReason")
        self.deferred_failure = get("defa")
        self.repeat_job_key = get("rjk")
        self.parent_key = get("parentKey")
        self.parent: dict[str, Any] | None = _lenient(get("parent"), None)
        self.progress: Any = _lenient(get("progress"), 0)
        self.return_value: Any = _lenient(get("returnvalue"), None)
        traces = _lenient(get("stacktrace"), [])
        self.stacktrace: list[str] = traces if isinstance(traces, list) else []

    @classmethod
    def from_hash(cls, queue_name: str, job_id: str, raw: Mapping[str, str]) -> Job:
        """Build a job of its hash (HGETALL).

        Raises errors.PayloadError (`data` or `opts`) when that field is no JSON.
        """
        job = cls(queue_name, job_id, raw)
        job.load(raw)
        return job

    def load(self, raw: Mapping[str, str]) -> None:
        """Parse `data` and `opts` of the hash; raises errors.PayloadError naming the field."""
        try:
            opts = from_json(raw.get("opts") or "{}")
        except ValueError as error:
            raise PayloadError("opts", "no JSON") from error
        if not isinstance(opts, dict):
            raise PayloadError("opts", "no JSON object")
        if not STORED.isdisjoint(opts):
            opts = from_stored(opts)
        self.opts = opts
        try:
            self.data = from_json(raw.get("data") or "{}")
        except ValueError as error:
            raise PayloadError("data", "no JSON") from error

    def bind(self, writer: JobWriter, token: str, ender: JobEnder | None = None) -> None:
        """Give the job the means to write, and to be ended by hand, while it is active."""
        self._writer = writer
        self._ender = ender
        self.token = token

    @property
    def attempts(self) -> int:
        """`opts.attempts`; 0 and 1 both mean a single attempt."""
        return int(bounded(_integer(self.opts.get("attempts"))))

    async def update_progress(self, progress: Json) -> None:
        """Store `progress` and publish it. Raises errors.JobGone, errors.RedisAway."""
        self.progress = progress
        await self._bound().update_progress(self, progress)

    async def log(self, row: str) -> int:
        """Append a log row, return how many are kept. Raises errors.JobGone, errors.RedisAway."""
        return await self._bound().add_log(self, row)

    async def update_data(self, data: Json) -> None:
        """Replace the payload. Not fenced by the lock. Raises errors.JobGone, errors.RedisAway."""
        self.data = data
        await self._bound().update_data(self, data)

    async def move_to_delayed(self, until_ms: int, token: str | None = None) -> None:
        """Put this running job off until `until_ms`; raise DelayedError right afterwards."""
        await self._bound().move_to_delayed(self, until_ms, token or self.token or "")

    async def move_to_wait(self, token: str | None = None) -> int:
        """Give this running job back to the queue; raise WaitingError right afterwards.

        Returns how long the queue's rate limit lasts, in milliseconds; 0 without one.
        """
        return await self._bound().move_to_wait(self, token or self.token or "")

    async def move_to_waiting_children(
        self, token: str | None = None, opts: Mapping[str, Any] | None = None
    ) -> bool:
        """Let this running job wait for its children; raise WaitingChildrenError right afterwards.

        False when none is pending: then go on. `opts`: `{child: {id, queue}}` waits for this child
        only, `queue` being `<prefix>:<queue>`. Raises UnrecoverableError when a child that must not
        fail has failed.
        """
        child = (opts or {}).get("child")
        child_key = f"{child['queue']}:{child['id']}" if child else ""
        token = token or self.token or ""
        return await self._bound().move_to_waiting_children(self, token, child_key)

    async def extend_lock(self, token: str, duration_ms: int) -> bool:
        """Give the lock `duration_ms` from now; False when it is not `token`'s any more.

        The locks of a processor's jobs are renewed by the worker. Raises errors.RedisAway.
        """
        return await self._bound().extend_lock(self, token, duration_ms)

    async def move_to_completed(
        self, value: Json, token: str | None = None, fetch_next: bool = False
    ) -> NextJob | None:
        """Complete a job that was claimed by hand; with `fetch_next` claim the next one as well.

        Raises errors.JobNotHeld, errors.RedisAway, and RuntimeError in a processor.
        """
        return await self._end(Completed(value), token, fetch=fetch_next)

    async def move_to_failed(
        self, error: BaseException, token: str | None = None, fetch_next: bool = False
    ) -> NextJob | None:
        """Fail an attempt of a job that was claimed by hand; attempts and backoff decide.

        Raises as `move_to_completed`.
        """
        return await self._end(Failed(error), token, fetch=fetch_next)

    async def _end(self, ending: Ending, token: str | None, *, fetch: bool) -> NextJob | None:
        if self._ender is None:
            raise RuntimeError("a processor ends its job by returning or raising")
        return await self._ender.end(self, ending, token or self.token or "", fetch=fetch)

    def __repr__(self) -> str:
        return f"Job({self.queue_name!r}, {self.id!r}, name={self.name!r})"

    def _desk(self) -> JobDesk:
        return self._bound().desk

    def _bound(self) -> JobWriter:
        if self._writer is None:
            raise RuntimeError("this job is not running in a worker")
        return self._writer

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return nodenames.resolve(self, name, nodenames.JOB, nodenames.JOB_LACKS)


def _integer(value: Any) -> int:
    if value is None:
        return 0
    try:
        return int(value or 0)
    except OverflowError:
        # An infinity, as JavaScript reads 1e999.
        return int(bounded(value))
    except (TypeError, ValueError):
        return 0


def _lenient(text: str | None, default: Any) -> Any:
    if text is None:
        return default
    try:
        return from_json(text)
    except ValueError:
        return default
