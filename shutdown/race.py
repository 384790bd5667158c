"""Ending tasks for certain, and waiting for one thing unless another comes first.

Leaves no task behind, whoever wins.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine


CANCEL_AGAIN_SECONDS: Final = 0.1
"""How long one cancellation has to work before the next."""


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they are over, whatever came of them; raises nothing of theirs.

    Once is not enough: a cancellation that meets an `asyncio.timeout(0)` inside a library comes out
    as its TimeoutError (redis-py looks so whether a pooled connection is still good).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


async def unless(work: Coroutine[Any, Any, object], interrupt: Coroutine[Any, Any, object]) -> bool:
    """Run `work`; cancel it if `interrupt` ends first. True: `work` was done.

    Raises what `work` raises, also while it is being cancelled, and what `interrupt` raises.
    Waits for both to be over, so the caller bounds it where either may ignore its cancellation.
    """
    working, interrupting = asyncio.create_task(work), asyncio.create_task(interrupt)
    both = {working, interrupting}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished, interrupted = working.done(), interrupting.done()
        await end(*both)
    if finished or not working.cancelled():
        working.result()
    if interrupted:
        interrupting.result()
    return finished
