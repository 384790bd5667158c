"""The job as a processor sees it: a read model of the job's hash, and what it may write meanwhile.

Never ends a job: that is the worker's part (finish.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from campaign_worker.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from campaign_worker.queue.endings import Json

#: Short option names of the hash and their long ones (BullMQ, job.ts: optsDecodeMap).
LONG_NAMES = {
    "fpof": "failParentOnFailure",
    "cpof": "continueParentOnFailure",
    "idof": "ignoreDependencyOnFailure",
    "rdof": "removeDependencyOnFailure",
    "kl": "keepLogs",
    "de": "deduplication",
}
SHORT_NAMES = {long: short for short, long in LONG_NAMES.items()}


class JobWriter(Protocol):
    """What a running job needs from its queue; fulfilled by writer.QueueJobWriter."""

    async def update_progress(self, job: Job, progress: Json) -> None:
        """Store and publish the progress."""

    async def add_log(self, job: Job, row: str) -> int:
        """Append a row, return how many are kept."""

    async def update_data(self, job: Job, data: Json) -> None:
        """Replace the payload."""

    async def move_to_delayed(self, job: Job, until_ms: int, token: str) -> None:
        """Move the active job to delayed."""

    async def move_to_wait(self, job: Job, token: str) -> None:
        """Move the active job to the head of wait."""


class Job:
    """One job. Times are epoch milliseconds; `data` is the parsed JSON payload.

    `attempts_made` is `attemptsMade + atm`: bullmq 4 counted in the one field, 5 and later in the
    other. `opts` carries Node's long option names. camelCase names, as of Node and of the Python
    package, read the same attributes.
    """

    __slots__ = (
        "_writer",
        "attempts_made",
        "attempts_started",
        "data",
        "deferred_failure",
        "delay",
        "failed_reason",
        "finished_on",
        "id",
        "name",
        "opts",
        "parent",
        "parent_key",
        "priority",
        "processed_by",
        "processed_on",
        "progress",
        "queue_name",
        "repeat_job_key",
        "return_value",
        "stacktrace",
        "stalled_counter",
        "timestamp",
        "token",
    )

    def __init__(self, queue_name: str, job_id: str, raw: Mapping[str, str]) -> None:
        """Read the scalar fields of a job's hash; never raises, whatever the hash holds."""
        self._writer: JobWriter | None = None
        self.queue_name = queue_name
        self.id = job_id
        self.token: str | None = None
        self.name = raw.get("name", "")
        self.data: Any = None
        self.opts: dict[str, Any] = {}
        self.timestamp = _integer(raw.get("timestamp"))
        self.delay = _integer(raw.get("delay"))
        self.priority = _integer(raw.get("priority"))
        self.attempts_made = _integer(raw.get("attemptsMade")) + _integer(raw.get("atm"))
        self.attempts_started = _integer(raw.get("ats"))
        self.stalled_counter = _integer(raw.get("stc"))
        self.processed_on = _integer(raw.get("processedOn")) or None
        self.finished_on = _integer(raw.get("finishedOn")) or None
        self.processed_by = raw.get("pb")
        self.failed_reason = raw.get("failedReason")
        self.deferred_failure = raw.get("defa")
        self.repeat_job_key = raw.get("rjk")
        self.parent_key = raw.get("parentKey")
        self.parent: dict[str, Any] | None = _lenient(raw.get("parent"), None)
        self.progress: Any = _lenient(raw.get("progress"), 0)
        self.return_value: Any = _lenient(raw.get("returnvalue"), None)
        traces = _lenient(raw.get("stacktrace"), [])
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
            opts = json.loads(raw.get("opts") or "{}")
        except ValueError as error:
            raise PayloadError("opts", "no JSON") from error
        if not isinstance(opts, dict):
            raise PayloadError("opts", "no JSON object")
        self.opts = {LONG_NAMES.get(key) or key: value for key, value in opts.items()}
        try:
            self.data = json.loads(raw.get("data") or "{}")
        except ValueError as error:
            raise PayloadError("data", "no JSON") from error

    def bind(self, writer: JobWriter, token: str) -> None:
        """Give the job the means to write while it runs under `token`."""
        self._writer = writer
        self.token = token

    @property
    def attempts(self) -> int:
        """`opts.attempts`; 0 and 1 both mean a single attempt."""
        return _integer(self.opts.get("attempts"))

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

    async def move_to_wait(self, token: str | None = None) -> None:
        """Give this running job back to the queue; raise WaitingError right afterwards."""
        await self._bound().move_to_wait(self, token or self.token or "")

    def __repr__(self) -> str:
        return f"Job({self.queue_name!r}, {self.id!r}, name={self.name!r})"

    def _bound(self) -> JobWriter:
        if self._writer is None:
            raise RuntimeError("this job is not running in a worker")
        return self._writer

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            alias = _NODE_NAMES.get(name)
            if alias is None:
                raise AttributeError(f"Job has no attribute {name!r}")
            return getattr(self, alias)


_NODE_NAMES = {
    "attemptsMade": "attempts_made",
    "attemptsStarted": "attempts_started",
    "deferredFailure": "deferred_failure",
    "failedReason": "failed_reason",
    "finishedOn": "finished_on",
    "parentKey": "parent_key",
    "processedBy": "processed_by",
    "processedOn": "processed_on",
    "queueName": "queue_name",
    "repeatJobKey": "repeat_job_key",
    "returnvalue": "return_value",
    "stalledCounter": "stalled_counter",
    "updateProgress": "update_progress",
    "updateData": "update_data",
    "moveToDelayed": "move_to_delayed",
    "moveToWait": "move_to_wait",
}


def _integer(value: Any) -> int:
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def _lenient(text: str | None, default: Any) -> Any:
    if text is None:
        return default
    try:
        return json.loads(text)
    except ValueError:
        return default
