"""Waiting for one thing unless another comes first. Leaves no task behind, whoever wins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


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
        for task in both:
            task.cancel()
        await asyncio.wait(both)
    if finished or not working.cancelled():
        working.result()
    if interrupted:
        interrupting.result()
    return finished
