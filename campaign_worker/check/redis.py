"""Looks at Redis: reachable, new enough, loses no jobs by policy, holds the queues."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from campaign_worker.check.finding import Finding, broken, doubtful, fine, refused
from campaign_worker.slowest import DAYS_KEPT, slowest_seconds
from campaign_worker.startup import MEMORY_ITEM, REDIS_ITEM, redis_faults

if TYPE_CHECKING:
    from campaign_worker.settings import Settings

ITEM = REDIS_ITEM
_RAILWAY = ".railway.internal"
_WINDOW_PER_JOB = 2.5
"""A drain window of 2.5 times the longest job leaves it time on a bad day."""


async def check_redis(settings: Settings) -> list[Finding]:
    """Connect, ask INFO, look at each queue's keys. Raises nothing of Redis'."""
    url = settings.redis_url
    client = redis.asyncio.Redis.from_url(url.get_secret_value(), decode_responses=True)
    try:
        return await _look(client, settings)
    except AuthenticationError as error:
        return [refused(ITEM, f"{url}: {error}", "set the user and password that this Redis has")]
    except NoPermissionError as error:
        mend = "give the user +@all on the keys of BULLMQ_PREFIX"
        return [refused(ITEM, f"{url}: {error}", mend)]
    except (RedisError, OSError) as error:
        return [broken(ITEM, f"{url}: {error}", _mend_unreachable(str(url)))]
    finally:
        await client.aclose()


def _mend_unreachable(url: str) -> str:
    if _RAILWAY in url:
        return "private names exist only inside the same Railway project and environment"
    return "start Redis there, or correct host and port"


async def _look(client: redis.asyncio.Redis, settings: Settings) -> list[Finding]:
    info: dict[str, Any] = await client.info()
    queues = [await _queue(client, settings.bullmq_prefix, spec.name) for spec in settings.queues]
    persistence = await _persistence(client, info)
    slowest = _slowest(await slowest_seconds(client, settings.bullmq_prefix), settings)
    return [*_state(info), persistence, slowest, *queues]


def _state(info: dict[str, Any]) -> list[Finding]:
    faults = redis_faults(info)
    named = {fault.item for fault in faults}
    found = [broken(fault.item, fault.text, fault.mend) for fault in faults]
    version = f"Redis {info.get('redis_version', '0')}"
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else version
    good = {
        ITEM: f"{name} answers",
        MEMORY_ITEM: "noeviction: a full Redis refuses, it forgets no jobs",
    }
    found += [fine(item, text) for item, text in good.items() if item not in named]
    if info.get("cluster_enabled") == 1:
        mend = "set BULLMQ_PREFIX to a hash tag such as {bull}, in the app as well"
        found.append(doubtful(ITEM, "Redis Cluster: a queue's keys must share one slot", mend))
    return found


async def _persistence(client: redis.asyncio.Redis, info: dict[str, Any]) -> Finding:
    item = "Redis persistence"
    if info.get("aof_enabled") == 1:
        return fine(item, "append-only file is on")
    try:
        save = (await client.config_get("save")).get("save", "")
    except ResponseError:
        save = "unknown"
    mend = "CONFIG SET appendonly yes first, then --appendonly yes in its start command"
    if save:
        return doubtful(item, "snapshots only: a hard stop loses the jobs since the last one", mend)
    return doubtful(item, "none: a restart of Redis loses every job", mend)


async def _queue(client: redis.asyncio.Redis, prefix: str, name: str) -> Finding:
    item = f"queue {name}"
    key = f"{prefix}:{name}"
    meta = cast("dict[str, str]", await client.hgetall(f"{key}:meta"))
    if not meta:
        mend = "compare QUEUES and BULLMQ_PREFIX with the app; fine if it has added no job yet"
        return doubtful(item, f"no key {key}:meta", mend)
    waiting = await client.llen(f"{key}:wait") + await client.zcard(f"{key}:prioritized")
    delayed = await client.zcard(f"{key}:delayed")
    writer = meta.get("version", "an unknown version")
    text = f"{waiting} waiting, {delayed} delayed, written by {writer}"
    if "paused" in meta:
        return doubtful(item, f"paused; {text}", "queue.resume() in the app")
    return fine(item, text)


def _slowest(seconds: dict[str, float], settings: Settings) -> Finding:
    item = "slowest job"
    if not seconds:
        return fine(item, f"no worker has told of a job in {DAYS_KEPT} days")
    queue, longest = max(seconds.items(), key=lambda pair: pair[1])
    window = math.ceil(longest * _WINDOW_PER_JOB)
    text = f"{longest:.1f} s in queue {queue} ({DAYS_KEPT} days); a stop has "
    text += f"{settings.drain.stop_budget_seconds:g} s"
    if settings.drain.window_seconds >= window:
        return fine(item, text)
    names = ["RAILWAY_DEPLOYMENT_DRAINING_SECONDS"] if settings.on_railway else []
    if not names or settings.drain_seconds is not None:
        # The image sets it, and the smaller of the two counts.
        names.append("DRAIN_SECONDS")
    return doubtful(item, text, f"set {' and '.join(names)} to {window} and deploy again")
