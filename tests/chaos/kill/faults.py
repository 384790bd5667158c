"""What goes wrong in a run: each family is a coroutine that ends when it has done its worst."""

from __future__ import annotations

import asyncio
import json

import redis.asyncio

from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import JobSpec, Producer
from tests.acceptance.site import NODE_OPTIONS, QUEUE
from tests.chaos.kill.world import World

SHORTEST_LIFE_SECONDS = 0.1
LONGEST_LIFE_SECONDS = 1.0
LONGER_THAN_A_LEASE_SECONDS = 4.5
PATIENCE_SECONDS = 60.0

# What a stalled check does, but to jobs whose worker lives: it goes on, and another gets the job.
_GIVE_AWAY = """
local given = 0
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    redis.call('DEL', ARGV[1] .. id .. ':lock')
    redis.call('LREM', KEYS[1], 1, id)
    redis.call('RPUSH', KEYS[2], id)
    redis.call('ZADD', KEYS[3], 0, '0')
    given = given + 1
end
return given
"""
# The lock is another's from now on, and nobody's soon.
_STEAL_LOCKS = """
local stolen = 0
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    if redis.call('EXISTS', ARGV[1] .. id .. ':lock') == 1 then
        redis.call('SET', ARGV[1] .. id .. ':lock', 'a thief', 'PX', 700)
        stolen = stolen + 1
    end
end
return stolen
"""


async def random_kills(world: World, kills: int) -> None:
    """Kill a worker at random moments, also while it starts; another takes its place.

    With clocks that are wrong it has the clock of the one before.
    """
    while world.kills < kills:
        await world.keep_alive()
        pause = world.random.uniform(SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS)
        await asyncio.sleep(pause / world.plan.workers)
        world.kill(world.random.choice(world.fleet.living))
    await world.keep_alive()


async def redis_kills(world: World, count: int) -> None:
    """Kill Redis and start it again; it keeps every write, or nothing, as the plan says."""
    for _ in range(count):
        await _some_work(world)
        await world.redis.kill()
        await asyncio.sleep(world.random.uniform(0.0, 1.0))
        await world.redis.start()
        world.cuts += 1


async def redis_flushes(world: World, count: int) -> None:
    """FLUSHALL while mails go out."""
    for _ in range(count):
        await _some_work(world)
        async with world.site.redis() as client:
            await client.flushall()
        world.forgotten = True
        world.cuts += 1


async def postgres_kills(world: World, count: int) -> None:
    """Stop Postgres as a crash does, again and again, and start it at once."""
    for _ in range(count):
        await _some_work(world)
        await world.postgres.stop("immediate")
        await world.postgres.start()
        world.cuts += 1


async def postgres_away(world: World, count: int) -> None:
    """Keep Postgres away for longer than a lease."""
    for _ in range(count):
        await _some_work(world)
        await world.postgres.stop("immediate")
        await asyncio.sleep(LONGER_THAN_A_LEASE_SECONDS)
        await world.postgres.start()
        world.cuts += 1


async def rivals(world: World, count: int) -> None:
    """Let two workers believe that they own a job: again and again all that are under way.

    A lock is gone and its job given to another, or the lock is another's, or there is a second job
    for the same mail, under an id of Node's.
    """
    keys = QueueKeys(QUEUE, world.site.prefix)
    while world.cuts < count:
        await _some_work(world)
        async with world.site.redis() as client:
            match world.random.choice(("given", "stolen", "doubled")):
                case "given":
                    lists = keys.all_of("active", "wait", "marker")
                    world.cuts += int(await client.eval(_GIVE_AWAY, 3, *lists, keys.base))
                case "stolen":
                    active = keys.of("active")
                    world.cuts += int(await client.eval(_STEAL_LOCKS, 1, active, keys.base))
                case _:
                    world.cuts += await _double(client, keys)


async def _double(client: redis.asyncio.Redis, keys: QueueKeys) -> int:
    """Add a second job for each mail under way, to be taken next."""
    specs = []
    for job_id in await client.lrange(keys.of("active"), 0, -1):
        name, data = await client.hmget(keys.job(job_id), ["name", "data"])
        if name is not None and data is not None:
            options = {**NODE_OPTIONS, "lifo": True, "removeOnComplete": True}
            specs.append(JobSpec(name, json.loads(data), None, options))
    return len(await Producer(client, keys.queue, keys.prefix).add_many(specs))


async def _some_work(world: World) -> None:
    """Wait until some more mails have gone out."""
    await world.keep_alive()
    enough = len(world.sink.received) + world.random.randint(20, 60)
    await world.sink.wait_mails(enough, timeout_seconds=PATIENCE_SECONDS)
