"""One look over a queue for many jobs: lists are read in pages, once, and never searched per job.

Changes nothing. What it says was true at some moment of the look; a script decides before it acts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.protocol import Call
from campaign_worker.queue.scripts import load_scripts
from campaign_worker.queue.standing import Standing

_IDS_PER_CALL = 500
_IDS_PER_PAGE = 5000
_FEW = 20
_PAGES_FOR_FEW = 4
_DIGITS = {
    "0": Standing.ABSENT,
    "1": Standing.FINISHED,
    "2": Standing.DELAYED,
    "3": Standing.UNDERWAY,
    "4": Standing.UNLISTED,
}

Run = Callable[[Sequence[Call]], Awaitable[list[Any]]]


class Survey:
    """One look. `run` executes script calls, `read` gives a page of a list; both raise RedisAway.

    Holds the ids of every list entry that it has read.
    """

    def __init__(self, keys: QueueKeys, run: Run, read: ListReader) -> None:
        self._keys = keys
        self._run = run
        self._read = read
        self._script = load_scripts()["survey"]
        self._seen: set[str] = set()
        #: Lists not yet read to their end, and how many entries from the tail have been.
        self._unread = [("active", 0), ("wait", 0), ("paused", 0)]

    async def look(self, job_ids: Sequence[str]) -> list[Standing]:
        """Say where each job stands."""
        calls = [
            self._call(job_ids[start : start + _IDS_PER_CALL])
            for start in range(0, len(job_ids), _IDS_PER_CALL)
        ]
        digits = "".join([_text(reply) for reply in await self._run(calls)])
        standings = [_DIGITS[digit] for digit in digits]
        sought = {
            job_id
            for job_id, standing in zip(job_ids, standings, strict=True)
            if standing is Standing.UNLISTED
        }
        await self._seek(sought)
        return [
            Standing.UNDERWAY
            if standing is Standing.UNLISTED and job_id in self._seen
            else standing
            for job_id, standing in zip(job_ids, standings, strict=True)
        ]

    def _call(self, job_ids: Sequence[str]) -> Call:
        keys = self._keys.all_of(
            "prioritized", "delayed", "completed", "failed", "waiting-children"
        )
        return Call(self._script, keys, (self._keys.base, *job_ids))

    async def _seek(self, sought: set[str]) -> None:
        """Read on from the tails, where the oldest jobs are, until all are seen.

        A few that do not turn up are not worth a long list: a script looks for each of them.
        """
        sought -= self._seen
        pages = 0
        while sought and self._unread and (len(sought) > _FEW or pages < _PAGES_FOR_FEW):
            kind, done = self._unread[0]
            page = await self._read(self._keys.of(kind), -done - _IDS_PER_PAGE, -done - 1)
            self._seen.update(page)
            sought.difference_update(page)
            pages += 1
            if len(page) < _IDS_PER_PAGE:
                del self._unread[0]
            else:
                # Jobs that are taken from the tail move the rest towards it: pages overlap.
                self._unread[0] = (kind, done + _IDS_PER_PAGE * 9 // 10)


ListReader = Callable[[str, int, int], Awaitable[list[str]]]


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
