"""The way up: logs and loop of a process; what the settings name is waited for, and it says so.

Redis or Postgres being away at the start is no error: a platform starts services in any order.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio as aioredis
import structlog
import uvloop
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError

from campaign_worker import logs
from campaign_worker.errors import Away, CredentialsRefused, RedisAway
from campaign_worker.settings import TrackerSettings

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
REPEAT_LOG_SECONDS = 15.0

# BullMQ's scripts use commands that came with 6.2 (docs.bullmq.io, Connections).
LEAST_REDIS = (6, 2)
REDIS_ITEM = "REDIS_URL"
MEMORY_ITEM = "Redis memory"


def run_in_loop(settings: TrackerSettings, process: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a process in the loop and with the logs that the settings ask for; its exit code."""
    logs.configure(
        settings.log_format.value, settings.log_level.value, instance=settings.instance_id
    )
    # What was imported stays: looking through all of it for garbage stops the loop for 70 ms.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(process())


@dataclass(frozen=True, slots=True)
class RedisFault:
    """Why a Redis that answers does not do: `item` is what was looked at."""

    item: str
    text: str
    mend: str


def redis_faults(info: Mapping[str, Any]) -> list[RedisFault]:
    """Judge the reply to INFO: too old, a replica, or free to forget jobs."""
    found = []
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < LEAST_REDIS:
        text = f"Redis {version} is too old for BullMQ"
        found.append(RedisFault(REDIS_ITEM, text, "use Redis 6.2 or newer"))
    if info.get("role") in ("slave", "replica"):
        mend = "name the primary in REDIS_URL"
        found.append(RedisFault(REDIS_ITEM, "this is a read-only replica", mend))
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: a full Redis drops jobs"
        mend = "CONFIG SET maxmemory-policy noeviction, and in its start command"
        found.append(RedisFault(MEMORY_ITEM, text, mend))
    return found


async def tell_redis_faults(client: aioredis.Redis) -> None:
    """Log what is wrong with a Redis that answers. It is no reason not to start."""
    try:
        info = await client.info()
    except (RedisError, OSError, TimeoutError):
        return  # it may be away again, or refuse INFO to this user
    for fault in redis_faults(info):
        log.error("Redis will not do", problem=fault.text, mend=fault.mend)


async def wait_for(what: str, connect: Callable[[], Awaitable[object]]) -> None:
    """Repeat `connect` until it goes well; errors.Away is waited out, all else passes.

    Says at once that it waits, again every 15 s, and when it is over.
    """
    began_at = time.monotonic()
    said_at: float | None = None
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        try:
            await connect()
        except Away as error:
            now = time.monotonic()
            if said_at is None or now - said_at >= REPEAT_LOG_SECONDS:
                said_at = now
                log.warning(
                    "waiting",
                    server=what,
                    error=str(error),
                    waited_seconds=round(now - began_at, 1),
                )
        else:
            break
        await asyncio.sleep(pause_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
    if said_at is not None:
        waited = round(time.monotonic() - began_at, 1)
        log.info("back", what=what, waited_seconds=waited)


async def ping_redis(client: aioredis.Redis) -> None:
    """Raise RedisAway unless Redis answers, CredentialsRefused when it says no to us."""
    try:
        pong: Awaitable[object] = client.ping()
        await pong
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise CredentialsRefused("REDIS_URL", str(error)) from error
    except (RedisError, OSError, TimeoutError) as error:
        if "WRONGPASS" in str(error) or "NOAUTH" in str(error):
            raise CredentialsRefused("REDIS_URL", str(error)) from error
        raise RedisAway(f"Redis: {error}") from error
