"""The next iteration of a job scheduler, produced when a job of it begins (job-scheduler.ts).

Does nothing twice: the script looks whether the job that asks is the scheduler's latest. Creates no
schedulers, and nothing for repeatable jobs of the old kind, which BullMQ 6 knows no longer.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack
from redis.exceptions import ResponseError

from campaign_worker.errors import NoNextIteration, RedisAway
from campaign_worker.queue.backoff import normalize
from campaign_worker.queue.cron import parse
from campaign_worker.queue.jobopts import to_stored
from campaign_worker.queue.jsonvalue import to_json
from campaign_worker.queue.occurrences import next_due_ms, zone_offset

if TYPE_CHECKING:
    from campaign_worker.queue.clock import RedisClock
    from campaign_worker.queue.job import Job
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.link import Link
    from campaign_worker.queue.scripts import Script

#: `(after_ms, repeat options, job name)`: epoch milliseconds of the next iteration, or None.
RepeatStrategy: TypeAlias = Callable[
    [int, dict[str, Any], str], float | Awaitable[float | None] | None
]

#: `name:id:endDate:tz:` and a cron pattern or an interval (hasLegacyRepeatableKeyShape).
_OLD_KIND = re.compile(r"[^:]*:[^:]*:[0-9]*:[^:]*:(?:.* .*|[0-9]+)", re.DOTALL)
_KEYS = (
    *("repeat", "delayed", "wait", "paused", "meta", "prioritized", "marker", "id", "events"),
    "pc",
)
_REFUSED_PAUSE_SECONDS = 0.5


class Iterations:
    """Sees to it that each scheduler of one queue goes on."""

    def __init__(
        self,
        link: Link,
        keys: QueueKeys,
        script: Script,
        clock: RedisClock,
        strategy: RepeatStrategy | None,
        *,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._link = link
        self._keys = keys
        self._script = script
        self._clock = clock
        self._strategy = strategy or by_pattern
        self._on_error = on_error

    async def follow(self, job: Job) -> None:
        """Produce what comes after `job`, however long Redis takes; callers bound it by cancelling.

        A chain that must end is reported as NoNextIteration; one that has come to its end is not.
        """
        while True:
            await self._link.wait_connected()
            try:
                await self._follow(job)
            except RedisAway:
                # Whatever became of it, asking again is harmless.
                continue
            except ResponseError as refusal:
                self._on_error(refusal)
                await asyncio.sleep(_REFUSED_PAUSE_SECONDS)
                continue
            except NoNextIteration as end:
                self._on_error(end)
            except Exception as error:  # noqa: BLE001 - a wrong pattern, or a strategy's own fault
                self._on_error(_end(job, str(error)))
            return

    async def _follow(self, job: Job) -> None:
        scheduler = job.repeat_job_key or ""
        if _OLD_KIND.fullmatch(scheduler) and not await self._link.command(
            "HEXISTS", f"{self._keys.of('repeat')}:{scheduler}", "ic"
        ):
            raise _end(job, "a repeatable job of BullMQ 4 or 5; make it a job scheduler")
        repeat = job.opts.get("repeat")
        if not isinstance(repeat, dict):
            raise _end(job, "its options hold no schedule")
        now_ms = self._clock.now_ms()
        if is_over(repeat, now_ms):
            return
        due_ms = await self._due(repeat, job, now_ms)
        if due_ms is None and not repeat.get("every"):
            return
        opts = to_stored(next_opts(job, repeat, due_ms, now_ms))
        keys = (*self._keys.all_of(*_KEYS), self._keys.job(job.id), self._keys.of("active"))
        arguments = (
            *("" if due_ms is None else due_ms, scheduler, to_json(job.data)),
            *(msgpack.packb(opts), now_ms, self._keys.base, job.id),
        )
        await self._link.call(self._script, keys, *arguments)

    async def _due(self, repeat: dict[str, Any], job: Job, now_ms: int) -> int | None:
        """When a pattern is next due; of an interval the script knows it, and None is returned."""
        pattern, every = repeat.get("pattern"), repeat.get("every")
        if bool(pattern) == bool(every):
            raise _end(job, "a schedule is either a pattern or an interval")
        if not pattern:
            return None
        after_ms = max(now_ms, int(job.opts.get("prevMillis") or 0))
        due = self._strategy(after_ms, repeat, job.name)
        chosen = await due if inspect.isawaitable(due) else due
        return max(int(chosen), after_ms) if chosen else None


def by_pattern(after_ms: int, repeat: dict[str, Any], _name: str) -> int | None:
    """Return when `repeat.pattern` is next due (defaultRepeatStrategy); None after `endDate`.

    Raises SettingsError for a pattern or a time zone that cron-parser refuses.
    """
    seed, zone = repeat.get("hashSeed"), repeat.get("tz")
    pattern = parse(str(repeat["pattern"]), seed if isinstance(seed, str) else None)
    offset = zone_offset(zone if isinstance(zone, str) else None)
    if repeat.get("immediately"):
        return after_ms
    due = next_due_ms(pattern, max(after_ms, _moment(repeat.get("startDate")) or 0), offset)
    end = _moment(repeat.get("endDate"))
    return None if due is None or (end is not None and due > end) else due


def is_over(repeat: Mapping[str, Any], now_ms: int) -> bool:
    """Tell whether a schedule has come to its `limit` or `endDate`."""
    limit, end = repeat.get("limit"), _moment(repeat.get("endDate"))
    return (limit is not None and _count(repeat) > limit) or (end is not None and now_ms > end)


def next_opts(
    job: Job, repeat: Mapping[str, Any], due_ms: int | None, now_ms: int
) -> dict[str, Any]:
    """Return the options of the next iteration's job (getNextJobOpts).

    Without a due time the script fills in what follows from it.
    """
    offset = repeat.get("offset") if repeat.get("every") else None
    return {
        "attempts": 0,
        **job.opts,
        "backoff": normalize(job.opts.get("backoff")),
        "jobId": f"repeat:{job.repeat_job_key}:{due_ms}",
        "delay": max(0, (due_ms or 0) - now_ms),
        "timestamp": now_ms,
        "prevMillis": due_ms,
        "repeatJobKey": job.repeat_job_key,
        "repeat": {
            name: value
            for name, value in {
                **repeat,
                "immediately": None,
                "offset": offset or None,
                "count": _count(repeat),
                "startDate": _moment(repeat.get("startDate")),
                "endDate": _moment(repeat.get("endDate")),
            }.items()
            if value is not None
        },
    }


def _count(repeat: Mapping[str, Any]) -> int:
    return int(repeat.get("count") or 0) + 1


def _moment(value: Any) -> int | None:
    """Read a date as JavaScript's Date does from a number or an ISO 8601 text: epoch ms."""
    if isinstance(value, str) and value:
        moment = datetime.fromisoformat(value)
        if len(value) == len("2026-01-01"):
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    return int(value) if value else None


def _end(job: Job, problem: str) -> NoNextIteration:
    return NoNextIteration(job.id, job.repeat_job_key or "", problem)
