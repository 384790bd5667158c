"""Names of a queue's keys in Redis, as BullMQ writes them (`<prefix>:<queue>:<kind>`)."""

from __future__ import annotations

import base64

_KINDS = (
    "wait",
    "active",
    "paused",
    "prioritized",
    "delayed",
    "completed",
    "failed",
    "waiting-children",
    "stalled",
    "stalled-check",
    "limiter",
    "repeat",
    "id",
    "meta",
    "pc",
    "events",
    "marker",
)


class QueueKeys:
    """Keys of one queue; `of(kind)` for a list, set or counter, `job(id)` for a job's hash."""

    __slots__ = ("_kinds", "base", "prefix", "queue")

    def __init__(self, queue: str, prefix: str = "bull") -> None:
        self.queue = queue
        self.prefix = prefix
        #: `<prefix>:<queue>:`, what scripts call the key prefix.
        self.base = f"{prefix}:{queue}:"
        self._kinds = {kind: self.base + kind for kind in _KINDS}

    def of(self, kind: str) -> str:
        """Key of a list, set, hash or counter of the queue; KeyError for an unknown kind."""
        return self._kinds[kind]

    def all_of(self, *kinds: str) -> tuple[str, ...]:
        """Several keys, in the order a script declares them."""
        return tuple(self._kinds[kind] for kind in kinds)

    def job(self, job_id: str) -> str:
        """Key of a job's hash."""
        return self.base + job_id

    def lock(self, job_id: str) -> str:
        """Key of a job's lock."""
        return f"{self.base}{job_id}:lock"

    def metrics(self, kind: str) -> str:
        """Key of BullMQ's own counters of finished jobs (`completed` or `failed`)."""
        return f"{self.base}metrics:{kind}"

    def client_name(self, worker_name: str | None) -> str:
        """CLIENT SETNAME of a worker's blocking connection, by which Node's getWorkers finds it."""
        encoded = base64.b64encode(self.queue.encode()).decode()
        suffix = f":w:{worker_name}" if worker_name else ""
        return f"{self.prefix}:{encoded}{suffix}"
