"""Hears a server out: what may have been sent is not left in doubt for less than a stop.

Owns the task of a send. Knows neither rows nor locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from shutdown import end

T = TypeVar("T")


async def hear_out(sending: Coroutine[Any, Any, T], worth: Callable[[], bool]) -> T:
    """Run a send to its answer, and raise what it raises.

    A cancellation cuts it off, unless its answer is there, or `worth` waiting for then: that one is
    used up here, and a second one cuts it off in any case.
    """
    task = asyncio.create_task(sending)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not worth():
            await end(task)
            if task.cancelled() or task.exception() is not None:
                raise
    asking = asyncio.current_task()
    if asking is not None:
        asking.uncancel()
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await end(task)
        raise
