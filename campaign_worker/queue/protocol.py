"""What the scripts are called with and what they answer: packing and unpacking, no I/O.

Argument order and field names are those of bullmq's scripts (redis-queue-backend.ts, 6.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack

from campaign_worker.queue.options import keep_jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from campaign_worker.queue.clock import RedisClock
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.options import WorkerOptions
    from campaign_worker.queue.scripts import Script
    from campaign_worker.queue.wire import Argument


@dataclass(frozen=True, slots=True)
class Call:
    """One script call, ready to send. `at_ms`: the time it carries (finishedOn, processedOn)."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
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
        flat = reply[0]
        return Claimed(dict(zip(flat[::2], flat[1::2], strict=True)), str(reply[1]))
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
        self._claim_keys = keys.all_of(
            *("wait", "active", "prioritized", "events", "stalled", "limiter", "delayed"),
            *("paused", "meta", "pc", "marker"),
        )
        self._finish_keys = self._claim_keys[:-1]

    def claim(self, token: str) -> Call:
        """moveToActive: the next job, locked under `token`."""
        packed = msgpack.packb({"token": token, **self._shared})
        now_ms = self._clock.now_ms()
        arguments = (self._keys.base, now_ms, packed)
        return Call(self._scripts["moveToActive"], self._claim_keys, arguments, now_ms)

    def complete(self, job: Job, token: str, value_json: str, *, fetch: bool) -> Call:
        """MoveToFinished to completed."""
        keep = self._keep(job.opts.get("removeOnComplete"), self._options.keep_completed)
        return self._finish(job, token, ("returnvalue", value_json, "completed"), keep, fetch)

    def fail(self, job: Job, token: str, reason: str, fields: list[str], *, fetch: bool) -> Call:
        """MoveToFinished to failed; `fields` is a flat list of hash fields to set."""
        keep = self._keep(job.opts.get("removeOnFail"), self._options.keep_failed)
        call = self._finish(job, token, ("failedReason", reason, "failed"), keep, fetch)
        return Call(call.script, call.keys, (*call.arguments, msgpack.packb(fields)), call.at_ms)

    def delay(
        self,
        job: Job,
        token: str,
        delay_ms: int,
        fields: list[str],
        *,
        fetch: bool,
    ) -> Call:
        """MoveToDelayed after a failed attempt, which is counted."""
        return self._delay(job, token, delay_ms, fields, fetch=fetch)

    def put_off(self, job: Job, token: str, until_ms: int, *, fetch: bool) -> Call:
        """MoveToDelayed until an epoch time, no attempt counted."""
        return self._delay(job, token, until_ms - self._clock.now_ms(), None, fetch=fetch)

    def _delay(
        self, job: Job, token: str, delay_ms: int, fields: list[str] | None, *, fetch: bool
    ) -> Call:
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
            msgpack.packb({"token": token, **self._shared}) if fetch else "",
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

    def _finish(
        self,
        job: Job,
        token: str,
        end: tuple[str, str, str],
        keep: Mapping[str, int],
        fetch: bool,
    ) -> Call:
        field, value, target = end
        now_ms = self._clock.now_ms()
        keys = (
            *self._finish_keys,
            self._keys.of(target),
            self._keys.job(job.id),
            self._keys.metrics(target),
            self._keys.of("marker"),
        )
        packed = msgpack.packb(
            {
                "token": token,
                **self._shared,
                "keepJobs": dict(keep),
                "attempts": job.attempts,
                "maxMetricsSize": self._options.max_metrics_points or "",
                "fpof": bool(job.opts.get("failParentOnFailure")),
                "cpof": bool(job.opts.get("continueParentOnFailure")),
                "idof": bool(job.opts.get("ignoreDependencyOnFailure")),
                "rdof": bool(job.opts.get("removeDependencyOnFailure")),
            }
        )
        arguments = (
            *(job.id, now_ms, field, value, target),
            *("1" if fetch else "0", self._keys.base, packed),
        )
        return Call(self._scripts["moveToFinished"], keys, arguments, now_ms)

    def _keep(self, of_job: Any, of_worker: Mapping[str, int] | None) -> Mapping[str, int]:
        own = keep_jobs(of_job) if isinstance(of_job, bool | int | float | dict) else None
        if own is not None:
            return own
        return {"count": -1} if of_worker is None else of_worker
