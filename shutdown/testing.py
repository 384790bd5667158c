"""The test that every service passes: checks the contract in `service`. For tests only."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from shutdown.service import Service, StoppedWhileStarting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

CALLERS = 10


async def stress(factory: Callable[[], Service], *, within_seconds: float = 20.0) -> None:
    """Hold what `factory` builds to the contract of `Service`; AssertionError says what was broken.

    Each scenario gets a fresh service and ends with it stopped; tasks left behind are a failure.
    """
    for scenario in (
        _stop_before_start,
        _stop_twice,
        _start_twice,
        _many_at_once,
        _stop_during_start,
        _restart,
        _storm,
    ):
        before = asyncio.all_tasks()
        try:
            async with asyncio.timeout(within_seconds):
                await scenario(factory())
        except TimeoutError as error:
            raise AssertionError(f"{_name(scenario)}: not over in {within_seconds} s") from error
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        if left:
            raise AssertionError(f"{_name(scenario)}: tasks left behind: {left}")


def _name(scenario: Callable[[Service], Coroutine[Any, Any, None]]) -> str:
    return scenario.__name__.strip("_").replace("_", " ")


async def _stop_before_start(service: Service) -> None:
    await service.stop()
    await service.start()
    await service.stop()


async def _stop_twice(service: Service) -> None:
    await service.start()
    await service.stop()
    await service.stop()


async def _start_twice(service: Service) -> None:
    await service.start()
    await service.start()
    await service.stop()


async def _many_at_once(service: Service) -> None:
    await asyncio.gather(*(service.start() for _ in range(CALLERS)))
    await asyncio.gather(*(service.stop() for _ in range(CALLERS)))


async def _stop_during_start(service: Service) -> None:
    starting = asyncio.create_task(_start(service))
    await asyncio.sleep(0)
    await service.stop()
    await starting
    await service.stop()


async def _restart(service: Service) -> None:
    for _ in range(3):
        await service.start()
        await service.stop()


async def _storm(service: Service) -> None:
    """Start and stop in a random but repeatable order, giving up some calls half-way."""
    dice = random.Random(20)  # noqa: S311 - repeatable, not secret
    calls = [
        asyncio.create_task(_start(service) if dice.random() < 0.5 else service.stop())  # noqa: PLR2004 - a coin
        for _ in range(4 * CALLERS)
    ]
    for call in dice.sample(calls, CALLERS):
        await asyncio.sleep(0)
        call.cancel()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, Exception):
            raise AssertionError(f"storm: a call failed: {result!r}") from result  # noqa: TRY004 - the verdict of a test
    await service.stop()


async def _start(service: Service) -> None:
    try:
        await service.start()
    except StoppedWhileStarting:
        return
