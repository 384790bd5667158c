"""Three ways to serve an app: alone through a deploy, beside its own worker, and there and back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from tests.acceptance.process import WorkerProcess
from tests.examples.office import Books, Office, Started

MOVE_SECONDS = 300.0
"""Long: BullMQ 4's Worker drops a job that it takes while it closes; a minute or two later the lock
is over and two looks for stalled jobs have seen it.
"""
STOP_SECONDS = 40.0
LISTS = 4
"""Campaigns where one job is a whole list: else one worker would have it all."""

Round = Callable[[Office, int], Awaitable[Books]]


async def alone(office: Office, mails: int) -> Books:
    """Serve it by our worker alone, which is replaced in the middle of mails."""
    first = await office.site.ready("first")
    campaigns = [await office.start(mails)]
    async with _later(office, campaigns):
        await _accepted(office, mails // 4)
        # Some are between their final dot and its 250 from here on.
        office.site.sink.hold()
        second = await office.site.ready("second")
        leaving = asyncio.create_task(_leave(office, first))
        await first.says("stopping")
        office.site.sink.release()
        await leaving
        books = await office.books(campaigns, MOVE_SECONDS)
    await _leave(office, second)
    return books


async def beside(office: Office, mails: int) -> Books:
    """Serve it by the app's own worker and ours at once."""
    node = await office.node_worker()
    ours = await office.site.ready("ours")
    count = LISTS if office.example.listed else 1
    campaigns = [await office.start(mails // count) for _ in range(count)]
    async with _later(office, campaigns):
        books = await office.books(campaigns, MOVE_SECONDS)
    await _leave(office, ours)
    await node.close()
    return books


async def there_and_back(office: Office, mails: int) -> Books:
    """Begin with the app's own worker, go over to ours in mid-campaign, and back."""
    node = await office.node_worker()
    campaigns = [await office.start(mails)]
    async with _later(office, campaigns):
        await _accepted(office, mails // 4)
        await node.close()
        ours = await office.site.ready("ours")
        await _accepted(office, mails * 5 // 8)
        await _leave(office, ours)
        node = await office.node_worker()
        books = await office.books(campaigns, MOVE_SECONDS)
    await node.close()
    return books


ROUNDS: dict[str, Round] = {"alone": alone, "beside": beside, "there_and_back": there_and_back}


async def _accepted(office: Office, count: int) -> None:
    await office.site.accepted(count, MOVE_SECONDS)


async def _leave(office: Office, worker: WorkerProcess) -> None:
    """Stop it as a deploy does. A whole list is no work for a drain: it is told to hurry."""
    worker.send(signal.SIGTERM)
    if office.example.listed:
        await worker.says("stopping")
        worker.send(signal.SIGTERM)
    assert await worker.ended(STOP_SECONDS) == 0
    words = worker.last_words
    assert (words["in_doubt"], words["abandoned"]) == (0, 0)


@contextlib.asynccontextmanager
async def _later(office: Office, campaigns: Sequence[Started]) -> AsyncIterator[None]:
    """See to the app's later mails meanwhile."""
    button = asyncio.create_task(office.later_mails(campaigns))
    try:
        yield
        await button
    finally:
        button.cancel()
        await asyncio.gather(button, return_exceptions=True)
