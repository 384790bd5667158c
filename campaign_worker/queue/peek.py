"""Reads the jobs that wait in a queue without taking them. Writes nothing.

A job that another worker takes meanwhile is simply not there any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError

from campaign_worker.errors import PayloadError, RedisAway
from campaign_worker.queue.job import Job
from campaign_worker.queue.keys import QueueKeys

if TYPE_CHECKING:
    import redis.asyncio

_PAGE = 200
_LISTS = ("wait", "paused")
_SETS = ("prioritized", "delayed")


async def waiting_jobs(
    client: redis.asyncio.Redis, queue: str, prefix: str, limit: int
) -> AsyncIterator[Sequence[Job | PayloadError]]:
    """Yield pages of jobs that wait, the next ones first; a job that is no JSON is its error.

    Raises errors.RedisAway.
    """
    keys = QueueKeys(queue, prefix)
    seen = 0
    for kind in (*_LISTS, *_SETS):
        start = 0
        while seen < limit:
            size = min(_PAGE, limit - seen)
            entries = await _entries(client, keys.of(kind), kind, start, size)
            if not entries:
                break
            start, seen = start + len(entries), seen + len(entries)
            # bullmq 4 keeps its marker among the jobs.
            ids = [entry for entry in entries if not entry.startswith("0:")]
            yield await _jobs(client, keys, ids)


async def _entries(
    client: redis.asyncio.Redis, key: str, kind: str, start: int, size: int
) -> list[str]:
    if kind in _LISTS:
        # Jobs are taken from the tail.
        reply = _answer(client.lrange(key, -start - size, -start - 1))
        found = list(reversed(await reply))
    else:
        found = await _answer(client.zrange(key, start, start + size - 1))
    return [one.decode() if isinstance(one, bytes) else one for one in found]


async def _jobs(
    client: redis.asyncio.Redis, keys: QueueKeys, ids: Sequence[str]
) -> list[Job | PayloadError]:
    pipeline = client.pipeline(transaction=False)
    for job_id in ids:
        pipeline.execute_command("HGETALL", keys.job(job_id))
    found: list[Job | PayloadError] = []
    for job_id, raw in zip(ids, await _answer(pipeline.execute()), strict=True):
        if not raw:
            continue
        try:
            found.append(Job.from_hash(keys.queue, job_id, _text(raw)))
        except PayloadError as error:
            found.append(error)
    return found


def _text(raw: dict[Any, Any]) -> dict[str, str]:
    return {
        name.decode(errors="replace") if isinstance(name, bytes) else name: value.decode(
            errors="replace"
        )
        if isinstance(value, bytes)
        else value
        for name, value in raw.items()
    }


async def _answer(reply: Awaitable[Any] | Any) -> Any:
    try:
        return await cast("Awaitable[Any]", reply)
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisAway(f"Redis: {error}") from error
