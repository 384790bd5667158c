"""What the scripts are called with and what they answer: packing and unpacking, no I/O.

Argument order and field names are those of bullmq's scripts (redis-queue-backend.ts, 6.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgpack

from campaign_worker.queue.options import keep_jobs
from campaign_worker.queue.wire import Head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from campaign_worker.queue.clock import RedisClock
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.options import WorkerOptions
    from campaign_worker.queue.scripts import Script
    from campaign_worker.queue.wire import Argument

#: Options of a job by which its end differs from that of a plain one.
_ENDING_OPTIONS = frozenset(
    {"removeOnComplete", "removeOnFail"}
    | {"failParentOnFailure", "continueParentOnFailure"}
    | {"ignoreDependencyOnFailure", "removeDependencyOnFailure"}
)
#: Keys of moveToFinished from the job's on.
_OWN_FINISH_KEYS = 3
#: Producers choose `attempts`, and may choose another number for each job.
_MOST_PLAIN_ENDS = 64


# Call and Claimed are made once per job: a tuple costs half of what a frozen dataclass does.
class Call(NamedTuple):
    """One script call, ready to send. `at_ms`: the time it carries (finishedOn, processedOn).

    `head` is its command up to the first of `keys`' last `own_keys`, packed beforehand.
    """

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    at_ms: int = 0
    head: Head | None = None
    own_keys: int = 0


class Claimed(NamedTuple):
    """A job is ours: its hash and id."""

    raw: dict[str, str]
    job_id: str


@dataclass(frozen=True, slots=True)
class NothingDue:
    """No job now: the rate limit ends in `limited_ms`, the next delayed job is due at `due_ms`."""

    limited_ms: int = 0
    due_ms: int = 0


#: What a script that was asked for the next job said; None: it did not say.
Next: TypeAlias = Claimed | NothingDue | None


def parse_next(reply: Any) -> Next:
    """Read `[hash | 0, id | 0, rate limit ms, next delayed ms]`; None for any other answer."""
    if not isinstance(reply, list) or not reply:
        return None
    if reply[0]:
        flat = iter(reply[0])
        return Claimed(dict(zip(flat, flat, strict=True)), str(reply[1]))
    limited, due = (int(float(value or 0)) for value in (*reply[2:4], 0, 0)[:2])
    return NothingDue(max(0, limited), max(0, due))


class Protocol:
    """Builds the calls of one worker on one queue."""

    def __init__(
        self,
        keys: QueueKeys,
        options: WorkerOptions,
        scripts: Mapping[str, Script],
        clock: RedisClock,
    ) -> None:
        self._keys = keys
        self._options = options
        self._scripts = scripts
        self._clock = clock
        shared: dict[str, Any] = {"lockDuration": options.lock_duration_ms, "limiter": None}
        if options.limiter is not None:
            limiter = options.limiter
            shared["limiter"] = {"max": limiter.max, "duration": limiter.duration}
        if options.name is not None:
            shared["name"] = options.name
        self._shared = shared
        self._pack = msgpack.Packer().pack
        self._claim_options = self._around_token({})
        #: Packed options of plain jobs' ends, by target and attempts.
        self._plain_ends: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        self._claim_keys = keys.all_of(
            *("wait", "active", "prioritized", "events", "stalled", "limiter", "delayed"),
            *("paused", "meta", "pc", "marker"),
        )
        self._finish_keys = self._claim_keys[:-1]
        self._finish_heads = {end: self._finish_head(end) for end in ("completed", "failed")}

    def claim(self, token: str) -> Call:
        """moveToActive: the next job, locked under `token`."""
        now_ms = self._clock.now_ms()
        arguments = (self._keys.base, now_ms, self._claim_opts(token))
        return Call(self._scripts["moveToActive"], self._claim_keys, arguments, now_ms)

    def complete(self, job: Job, token: str, value_json: str, *, fetch: bool) -> Call:
        """MoveToFinished to completed."""
        return self._finish(job, token, ("returnvalue", value_json, "completed"), fetch)

    def fail(self, job: Job, token: str, reason: str, fields: list[str], *, fetch: bool) -> Call:
        """MoveToFinished to failed; `fields` is a flat list of hash fields to set."""
        call = self._finish(job, token, ("failedReason", reason, "failed"), fetch)
        return call._replace(arguments=(*call.arguments, msgpack.packb(fields)))

    def put_off(self, job: Job, token: str, until_ms: int, *, fetch: bool) -> Call:
        """MoveToDelayed until an epoch time, no attempt counted."""
        return self.delay(job, token, until_ms - self._clock.now_ms(), None, fetch=fetch)

    def delay(
        self, job: Job, token: str, delay_ms: int, fields: list[str] | None, *, fetch: bool
    ) -> Call:
        """MoveToDelayed after a failed attempt, which is counted; without `fields` none is."""
        now_ms = self._clock.now_ms()
        keys = (
            *self._keys.all_of("marker", "active", "prioritized", "delayed"),
            self._keys.job(job.id),
            *self._keys.all_of("events", "meta", "stalled", "wait", "limiter", "pc"),
        )
        arguments = (
            *(self._keys.base, now_ms, job.id, token, max(0, delay_ms)),
            "1" if fields is None else "0",
            "" if fields is None else msgpack.packb(fields),
            "1" if fetch else "0",
            self._claim_opts(token) if fetch else "",
        )
        return Call(self._scripts["moveToDelayed"], keys, arguments, now_ms)

    def retry(self, job: Job, token: str, fields: list[str]) -> Call:
        """retryJob: back to wait at once, the attempt counted."""
        keys = (
            *self._keys.all_of("active", "wait", "paused"),
            self._keys.job(job.id),
            *self._keys.all_of("meta", "events", "delayed", "prioritized", "pc", "marker"),
            self._keys.of("stalled"),
        )
        now_ms = self._clock.now_ms()
        push = "RPUSH" if job.opts.get("lifo") else "LPUSH"
        arguments = (self._keys.base, now_ms, push, job.id, token, msgpack.packb(fields))
        return Call(self._scripts["retryJob"], keys, arguments, now_ms)

    def hand_back(self, job_id: str, token: str) -> Call:
        """moveJobFromActiveToWait: to the head of the queue, nothing counted."""
        keys = self._keys.all_of(
            *("active", "wait", "stalled", "paused", "meta", "limiter", "prioritized"),
            *("marker", "events"),
        )
        return Call(
            self._scripts["moveJobFromActiveToWait"], keys, (job_id, token, self._keys.job(job_id))
        )

    def wait_for_children(self, job_id: str, token: str, child_key: str) -> Call:
        """moveToWaitingChildren: 0 moved, 1 no child is pending; `child_key` "" means any child."""
        job = self._keys.job(job_id)
        keys = (
            *self._keys.all_of("active", "waiting-children"),
            *(job, f"{job}:dependencies", f"{job}:unsuccessful"),
            *self._keys.all_of("stalled", "events"),
        )
        arguments = (token, child_key, self._clock.now_ms(), job_id, self._keys.base)
        return Call(self._scripts["moveToWaitingChildren"], keys, arguments)

    def restore_marker(self) -> Call:
        """Wake an idle worker if there is anything to do."""
        keys = self._keys.all_of("wait", "prioritized", "meta", "active", "delayed", "marker")
        return Call(self._scripts["restoreMarker"], keys, ())

    def claimed_by(self, token_prefix: str) -> Call:
        """Find the active jobs whose lock holds a token of this worker."""
        return Call(
            self._scripts["claimedBy"], self._keys.all_of("active"), (self._keys.base, token_prefix)
        )

    def inspect(self, job_id: str) -> Call:
        """Ask what has become of a job."""
        keys = (self._keys.job(job_id), self._keys.lock(job_id), self._keys.of("active"))
        return Call(self._scripts["inspect"], keys, (job_id,))

    def extend_locks(self, job_ids: Sequence[str], tokens: Sequence[str], duration_ms: int) -> Call:
        """extendLocks; answers with the ids whose lock is not their token's."""
        packed = (msgpack.packb(list(tokens)), msgpack.packb(list(job_ids)))
        arguments = (self._keys.base, *packed, duration_ms)
        return Call(self._scripts["extendLocks"], self._keys.all_of("stalled"), arguments)

    def sweep_stalled(self) -> Call:
        """moveStalledJobsToWait; answers with the ids that were moved."""
        keys = self._keys.all_of(
            *("stalled", "wait", "active", "stalled-check", "meta", "paused", "marker"),
            *("events", "repeat"),
        )
        options = self._options
        arguments = (
            *(options.max_stalled_count, self._keys.base, self._clock.now_ms()),
            options.stalled_interval_ms,
        )
        return Call(self._scripts["moveStalledJobsToWait"], keys, arguments)

    def _finish(self, job: Job, token: str, end: tuple[str, str, str], fetch: bool) -> Call:
        field, value, target = end
        now_ms = self._clock.now_ms()
        keys = (
            *(*self._finish_keys, self._keys.of(target), self._keys.job(job.id)),
            *(self._keys.metrics(target), self._keys.of("marker")),
        )
        before, after = self._end_options(job, target)
        arguments = (
            *(job.id, now_ms, field, value, target),
            *("1" if fetch else "0", self._keys.base, before + self._pack(token) + after),
        )
        script, head = self._scripts["moveToFinished"], self._finish_heads[target]
        return Call(script, keys, arguments, now_ms, head, _OWN_FINISH_KEYS)

    def _finish_head(self, target: str) -> Head:
        shared = (*self._finish_keys, self._keys.of(target))
        sha = self._scripts["moveToFinished"].sha
        return Head.of("EVALSHA", sha, len(shared) + _OWN_FINISH_KEYS, *shared)

    def _end_options(self, job: Job, target: str) -> tuple[bytes, bytes]:
        if not _ENDING_OPTIONS.isdisjoint(job.opts):
            return self._around_token(self._end(job, target))
        known = self._plain_ends.get((target, job.attempts))
        if known is None:
            known = self._around_token(self._end(job, target))
            if len(self._plain_ends) < _MOST_PLAIN_ENDS:
                self._plain_ends[target, job.attempts] = known
        return known

    def _end(self, job: Job, target: str) -> dict[str, Any]:
        opts, options = job.opts, self._options
        if target == "completed":
            keep = self._keep(opts.get("removeOnComplete"), options.keep_completed)
        else:
            keep = self._keep(opts.get("removeOnFail"), options.keep_failed)
        return {
            "keepJobs": dict(keep),
            "attempts": job.attempts,
            "maxMetricsSize": options.max_metrics_points or "",
            "fpof": bool(opts.get("failParentOnFailure")),
            "cpof": bool(opts.get("continueParentOnFailure")),
            "idof": bool(opts.get("ignoreDependencyOnFailure")),
            "rdof": bool(opts.get("removeDependencyOnFailure")),
        }

    def _claim_opts(self, token: str) -> bytes:
        before, after = self._claim_options
        packed: bytes = self._pack(token)
        return before + packed + after

    def _around_token(self, more: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """Pack a script's options but for the token: what stands before it and after it."""
        whole = msgpack.packb({"token": None, **self._shared, **more})
        before, nothing, after = whole.partition(msgpack.packb("token") + msgpack.packb(None))
        return before + nothing[:-1], after

    def _keep(self, of_job: Any, of_worker: Mapping[str, float] | None) -> Mapping[str, float]:
        own = keep_jobs(of_job) if isinstance(of_job, bool | int | float | dict) else None
        if own is not None:
            return own
        return {"count": -1} if of_worker is None else of_worker
