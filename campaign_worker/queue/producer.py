"""Adds jobs as a Node 6 producer does; revives, wakes, puts off and counts those that are there.

Owns no connection: the client is the caller's, with its own retries. Adding under a fixed id, and
reviving, can be repeated safely.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgpack
from redis.exceptions import NoScriptError, RedisError, ResponseError

from campaign_worker.errors import RedisAway, UnsupportedOption
from campaign_worker.queue.aside import Aside
from campaign_worker.queue.backoff import normalize
from campaign_worker.queue.clock import RedisClock, steady_seconds
from campaign_worker.queue.jobopts import to_stored
from campaign_worker.queue.jsonvalue import to_json
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.protocol import Call
from campaign_worker.queue.refusals import is_away
from campaign_worker.queue.scripts import load_scripts
from campaign_worker.queue.survey import Survey

if TYPE_CHECKING:
    import redis.asyncio

    from campaign_worker.queue.endings import Json

Found: TypeAlias = Literal["absent", "reprocessed", "requeued", "untouched"]
Revival: TypeAlias = Literal["added", "reprocessed", "requeued", "untouched"]

_PRIORITY_LIMIT = 2**21 - 1
_BATCH = 500
_NOT_DELAYED = -3
_SYNC_SECONDS = 300.0
_UNSUPPORTED = ("parent", "repeat", "repeatJobKey", "debounce", "sizeLimit")
_STATES = {
    "waiting": ("LLEN", "wait"),
    "paused": ("LLEN", "paused"),
    "active": ("LLEN", "active"),
    "prioritized": ("ZCARD", "prioritized"),
    "delayed": ("ZCARD", "delayed"),
    "waiting-children": ("ZCARD", "waiting-children"),
    "completed": ("ZCARD", "completed"),
    "failed": ("ZCARD", "failed"),
}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job to be. `job_id` None lets Redis count one; `opts` has Node's option names."""

    name: str
    data: Json
    job_id: str | None = None
    opts: Mapping[str, Any] = field(default_factory=dict)
    delay_ms: int = 0

    def __post_init__(self) -> None:
        job_id = self.job_id
        if job_id is not None and (not job_id or ":" in job_id or job_id.isdecimal()):
            raise ValueError(f"job id {job_id!r}: must be given, hold no colon and not be a number")
        for option in _UNSUPPORTED:
            if option in self.opts:
                raise UnsupportedOption(f"job option {option}", "this producer does not honour it")
        priority = self.opts.get("priority") or 0
        if not (isinstance(priority, int) and 0 <= priority <= _PRIORITY_LIMIT):
            raise ValueError(f"priority must be a whole number from 0 to {_PRIORITY_LIMIT}")

    def stored_opts(self) -> dict[str, Any]:
        """Return the options as Node stores them: attempts, backoff in full, short names."""
        opts = {"attempts": 0, **self.opts}
        if self.job_id is not None:
            opts["jobId"] = self.job_id
        if self.delay_ms > 0:
            opts["delay"] = self.delay_ms
        backoff = normalize(opts.pop("backoff", None))
        if backoff is not None:
            opts["backoff"] = backoff
        return to_stored(opts)


class Producer:
    """Puts jobs into one queue.

    All methods raise errors.RedisAway when Redis does not answer, or takes no writes (refusals.py).
    """

    def __init__(self, client: redis.asyncio.Redis, queue: str, prefix: str = "bull") -> None:
        self._client = client
        self._keys = QueueKeys(queue, prefix)
        self._scripts = load_scripts()
        self._clock = RedisClock()
        self._synced_at: float | None = None

    async def add(
        self,
        name: str,
        data: Json,
        *,
        job_id: str | None = None,
        opts: Mapping[str, Any] | None = None,
        delay_ms: int = 0,
    ) -> str:
        """Add one job and return its id; an id that exists already is left as it is."""
        return (await self.add_many([JobSpec(name, data, job_id, opts or {}, delay_ms)]))[0]

    async def add_many(self, specs: Sequence[JobSpec]) -> list[str]:
        """Add jobs in their order and return their ids; in batches, not in one transaction."""
        now_ms = await self._now_ms()
        return [_text(reply) for reply in await self._run([self._add(s, now_ms) for s in specs])]

    async def revive(
        self, specs: Sequence[JobSpec], *, reset_attempts: bool = True
    ) -> list[Revival]:
        """Make sure that each job will run: add it, or bring it back if it finished or got lost.

        A job that waits, is delayed or runs is left untouched. Every spec needs a `job_id`.
        """
        if any(spec.job_id is None for spec in specs):
            raise ValueError("only a job with an id of its own can be revived")
        ids = [str(spec.job_id) for spec in specs]
        found = await self.revive_known(ids, reset_attempts=reset_attempts)
        await self.add_many(
            [spec for spec, state in zip(specs, found, strict=True) if state == "absent"]
        )
        return ["added" if state == "absent" else state for state in found]

    async def revive_known(
        self, job_ids: Sequence[str], *, reset_attempts: bool = True
    ) -> list[Found]:
        """Bring back those jobs that exist, under whatever ids their producers chose."""
        calls = [self._revive(job_id, reset_attempts=reset_attempts) for job_id in job_ids]
        return [_found(_text(reply)) for reply in await self._run(calls)]

    async def promote(self, job_ids: Sequence[str]) -> int:
        """Let delayed jobs run at once; how many were delayed (promote-9.lua)."""
        calls = [self._promote(job_id) for job_id in job_ids]
        replies = await self._run(calls, refusals=(_NOT_DELAYED,))
        return sum(int(reply) == 0 for reply in replies)

    def survey(self) -> Survey:
        """Begin a look over the queue for many jobs."""
        return Survey(self._keys, self._run, self._page, self._index)

    def aside(self) -> Aside:
        """Give what puts off many jobs at once, and calls them back."""
        return Aside(self._keys, self._run, self._now_ms, self._page, self.promote)

    async def counts(self) -> dict[str, int]:
        """How many jobs stand in each state, by Node's names of the states."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for command, kind in _STATES.values():
                pipeline.execute_command(command, self._keys.of(kind))
            with _answered():
                replies = await pipeline.execute()
        return dict(zip(_STATES, map(int, replies), strict=True))

    def _add(self, spec: JobSpec, now_ms: int) -> Call:
        opts = spec.stored_opts()
        timestamp = int(opts.get("timestamp") or now_ms)
        deduplication = opts.get("de")
        dedup_key = f"{self._keys.base}de:{deduplication['id']}" if deduplication else None
        # Prefix, id, name, timestamp, three fields of a parent, scheduler, deduplication key.
        header = [self._keys.base, spec.job_id or "", spec.name, timestamp, None, None, None, None]
        arguments = (
            msgpack.packb([*header, dedup_key]),
            to_json(spec.data),
            msgpack.packb(opts),
        )
        script, kinds = _way_in(opts)
        return Call(self._scripts[script], self._keys.all_of(*kinds), arguments)

    def _promote(self, job_id: str) -> Call:
        keys = self._keys.all_of(
            *("delayed", "wait", "paused", "meta", "prioritized", "active", "pc", "events"),
            "marker",
        )
        return Call(self._scripts["promote"], keys, (self._keys.base, job_id))

    def _revive(self, job_id: str, *, reset_attempts: bool) -> Call:
        keys = (
            *(self._keys.job(job_id), self._keys.lock(job_id)),
            *self._keys.all_of("wait", "paused", "prioritized", "delayed", "active", "completed"),
            *self._keys.all_of("failed", "waiting-children", "meta", "pc", "marker", "events"),
        )
        return Call(self._scripts["revive"], keys, (job_id, "1" if reset_attempts else "0"))

    async def _page(self, key: str, first: int, last: int) -> list[str]:
        asked: Any = self._client.lrange(key, first, last)
        with _answered():
            return [_text(job_id) for job_id in await asked]

    async def _index(self, key: str, entry: str) -> int | None:
        asked: Any = self._client.lpos(key, entry, rank=-1)
        with _answered():
            found: int | None = await asked
        return found

    async def _run(self, calls: Sequence[Call], refusals: tuple[int, ...] = ()) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(calls), _BATCH):
            batch = calls[start : start + _BATCH]
            with _answered():
                replies += await self._run_batch(batch, refusals)
        return replies

    async def _run_batch(self, calls: Sequence[Call], refusals: tuple[int, ...]) -> list[Any]:
        replies = await self._pipeline(calls)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # A call that Redis did not know was not executed, so it is not repeated.
            for script in {calls[at].script for at in unknown}:
                await self._client.script_load(script.text)
            again = await self._pipeline([calls[at] for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
            if isinstance(reply, int) and reply < 0 and reply not in refusals:
                raise ResponseError(f"the script refused a job with code {reply}")
        return replies

    async def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                # The stub does not know that a pipeline queues and returns itself.
                pipeline.evalsha(  # type: ignore[unused-awaitable]
                    call.script.sha, len(call.keys), *call.keys, *call.arguments
                )
            return list(await pipeline.execute(raise_on_error=False))

    async def _now_ms(self) -> int:
        asked_at = steady_seconds()
        if self._synced_at is None or asked_at - self._synced_at > _SYNC_SECONDS:
            with _answered():
                reply = await self._client.time()
            self._synced_at = steady_seconds()
            self._clock.sync(asked_at, [str(int(part)) for part in reply], self._synced_at)
        return self._clock.now_ms()


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """Turn errors that waiting mends into RedisAway."""
    try:
        yield
    except (RedisError, OSError) as error:
        if is_away(error):
            raise RedisAway(str(error)) from error
        raise


def _way_in(opts: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    if opts.get("delay"):
        return "addDelayedJob", ("marker", "meta", "id", "delayed", "completed", "events")
    if opts.get("priority"):
        return (
            "addPrioritizedJob",
            (
                *("marker", "meta", "id", "prioritized", "delayed", "completed", "active"),
                *("events", "pc"),
            ),
        )
    return (
        "addStandardJob",
        ("wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker"),
    )


def _found(state: str) -> Found:
    match state:
        case "absent" | "reprocessed" | "requeued" | "untouched":
            return state
        case _:
            raise ResponseError(f"the script revive answered {state!r}")


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
