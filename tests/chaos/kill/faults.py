"""What goes wrong in a run: each family is a coroutine that ends when it has done its worst."""

from __future__ import annotations

import asyncio

from tests.chaos.kill.world import World

SHORTEST_LIFE_SECONDS = 0.1
LONGEST_LIFE_SECONDS = 1.0


async def random_kills(world: World, kills: int) -> None:
    """Kill a worker at random moments, also while it starts; another takes its place."""
    while world.kills < kills:
        await world.keep_alive()
        pause = world.random.uniform(SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS)
        await asyncio.sleep(pause / world.plan.workers)
        living = [member for member in world.fleet.members if member.running]
        world.kill(world.random.choice(living))
    await world.keep_alive()
