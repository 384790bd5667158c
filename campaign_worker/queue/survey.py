"""One look over a queue for many jobs: lists are read in pages, once, and not searched per job.

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
_PAGES_AT_THE_TAIL = 2
_PAGES_FOR_FEW = 2
_LEAPS = 3
_IDS_BEHIND = 100
_DIGITS = {
    "0": Standing.ABSENT,
    "1": Standing.FINISHED,
    "2": Standing.DELAYED,
    "3": Standing.UNDERWAY,
    "4": Standing.UNLISTED,
}

Run = Callable[[Sequence[Call]], Awaitable[list[Any]]]


class Survey:
    """One look. `run` executes script calls; all three raise RedisAway.

    `read` gives a part of a list, `find` the index of an entry from its head. Holds the ids of
    every list entry that it has read.
    """

    def __init__(self, keys: QueueKeys, run: Run, read: ListReader, find: ListFinder) -> None:
        self._keys = keys
        self._run = run
        self._read = read
        self._find = find
        self._script = load_scripts()["survey"]
        self._seen: set[str] = set()
        #: Lists not yet read to their end, and how many entries from the tail have been.
        self._unread = [("active", 0), ("wait", 0), ("paused", 0)]

    async def look(
        self, job_ids: Sequence[str], added_ms: Sequence[int | None] = ()
    ) -> list[Standing]:
        """Say where each job stands; one that was added at another time than `added_ms` is absent.

        `added_ms` is empty or as long as `job_ids`; None stands for any time.
        """
        times = ["" if at is None else str(at) for at in added_ms] or [""] * len(job_ids)
        calls = [
            self._call(job_ids[start : start + _IDS_PER_CALL], times[start : start + _IDS_PER_CALL])
            for start in range(0, len(job_ids), _IDS_PER_CALL)
        ]
        digits = "".join([_text(reply) for reply in await self._run(calls)])
        standings = [_DIGITS[digit] for digit in digits]
        await self._seek(
            [
                job_id
                for job_id, standing in zip(job_ids, standings, strict=True)
                if standing is Standing.UNLISTED and job_id not in self._seen
            ]
        )
        return [
            Standing.UNDERWAY
            if standing is Standing.UNLISTED and job_id in self._seen
            else standing
            for job_id, standing in zip(job_ids, standings, strict=True)
        ]

    def _call(self, job_ids: Sequence[str], times: Sequence[str]) -> Call:
        keys = self._keys.all_of(
            "prioritized", "delayed", "completed", "failed", "waiting-children"
        )
        return Call(self._script, keys, (self._keys.base, *job_ids, *times))

    async def _seek(self, in_order: Sequence[str]) -> None:
        """Read where the oldest jobs are, then where one of these is, then everything.

        A few that do not turn up are not worth a long list: a script looks for each of them.
        """
        sought = set(in_order)
        await self._read_on(sought, _PAGES_AT_THE_TAIL)
        if len(sought) > _FEW:
            await self._leap(sought, [job_id for job_id in in_order if job_id in sought])
        while len(sought) > _FEW and self._unread:
            await self._read_on(sought, 1)
        await self._read_on(sought, _PAGES_FOR_FEW)

    async def _read_on(self, sought: set[str], pages: int) -> None:
        """Read so many pages from the tails on, unless all are seen before."""
        while sought and self._unread and pages > 0:
            kind, done = self._unread[0]
            read = await self._note(sought, kind, -done - _IDS_PER_PAGE, -done - 1)
            pages -= 1
            if read < _IDS_PER_PAGE:
                del self._unread[0]
            else:
                # Jobs that are taken from the tail move the rest towards it: pages overlap.
                self._unread[0] = (kind, done + _IDS_PER_PAGE * 9 // 10)

    async def _leap(self, sought: set[str], in_order: Sequence[str]) -> None:
        """Read the page in which the first of them is: jobs that belong together lie together.

        A long list is walked over in Redis for that, by milliseconds; reading it takes longer.
        """
        for job_id in in_order[:_LEAPS]:
            for kind, _ in self._unread:
                at = await self._find(self._keys.of(kind), job_id)
                if at is not None:
                    # Whoever came later lies nearer to the head.
                    first = max(0, at - _IDS_PER_PAGE + _IDS_BEHIND)
                    await self._note(sought, kind, first, at + _IDS_BEHIND)
                    return

    async def _note(self, sought: set[str], kind: str, first: int, last: int) -> int:
        """Read a part of a list; how much there was."""
        page = await self._read(self._keys.of(kind), first, last)
        self._seen.update(page)
        sought.difference_update(page)
        return len(page)


ListReader = Callable[[str, int, int], Awaitable[list[str]]]
ListFinder = Callable[[str, str], Awaitable[int | None]]


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
