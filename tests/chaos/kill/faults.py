"""What goes wrong in a run: each family is a coroutine that ends when it has done its worst."""

from __future__ import annotations

import asyncio

from tests.chaos.kill.world import World

SHORTEST_LIFE_SECONDS = 0.1
LONGEST_LIFE_SECONDS = 1.0
LONGER_THAN_A_LEASE_SECONDS = 4.5
PATIENCE_SECONDS = 30.0


async def random_kills(world: World, kills: int) -> None:
    """Kill a worker at random moments, also while it starts; another takes its place."""
    while world.kills < kills:
        await world.keep_alive()
        pause = world.random.uniform(SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS)
        await asyncio.sleep(pause / world.plan.workers)
        living = [member for member in world.fleet.members if member.running]
        world.kill(world.random.choice(living))
    await world.keep_alive()


async def redis_kills(world: World, count: int) -> None:
    """Kill Redis, which keeps every write, and start it again."""
    for _ in range(count):
        await _some_work(world)
        await world.redis.kill()
        await asyncio.sleep(world.random.uniform(0.0, 1.0))
        await world.redis.start()
        world.cuts += 1


async def redis_kills_without_persistence(world: World, count: int) -> None:
    """Kill a Redis that keeps nothing: it comes back empty (the plan has no appendonly)."""
    assert not world.plan.appendonly
    await redis_kills(world, count)


async def redis_flushes(world: World, count: int) -> None:
    """FLUSHALL while mails go out."""
    for _ in range(count):
        await _some_work(world)
        async with world.site.redis() as client:
            await client.flushall()
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


async def _some_work(world: World) -> None:
    """Wait until some more mails have gone out."""
    await world.keep_alive()
    enough = len(world.sink.mails) + world.random.randint(20, 60)
    await world.sink.wait_mails(enough, timeout_seconds=PATIENCE_SECONDS)
