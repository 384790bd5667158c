"""Rows that were found, beside the jobs that they should have: who lacks one gets it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from campaign_worker.delivery.revival import DueRow
from campaign_worker.queue.standing import Standing
from campaign_worker.sequence.jobs import MailJob, inline_job, inline_job_id, mail_job, mail_job_id

_SEARCHED_AT_ONCE = 10
"""For a job that was seen in no list a script walks along them: not too many at a time."""

WholeRows = Callable[[Sequence[int]], AsyncIterator[Sequence[DueRow]]]

_NEEDY = (Standing.ABSENT, Standing.FINISHED, Standing.UNLISTED)


class Survey(Protocol):
    """One look over a queue. Raises errors.RedisAway."""

    async def look(
        self, job_ids: Sequence[str], added_ms: Sequence[int | None] = ()
    ) -> list[Standing]:
        """Say where each job stands; absent is also one that was added at another time."""
        ...


class JobQueue(Protocol):
    """What this module needs of a queue. Raises errors.RedisAway."""

    async def add(self, job: MailJob) -> None:
        """Add a job; adding a known id again changes nothing."""
        ...

    async def add_all(self, jobs: Sequence[MailJob]) -> None:
        """Add several."""
        ...

    async def revive_known(self, job_ids: Sequence[str]) -> list[bool | None]:
        """Bring back jobs that exist: whether each needed it, None where there is none."""
        ...

    async def promote(self, job_ids: Sequence[str]) -> int:
        """Let delayed jobs run at once; how many were delayed."""
        ...

    async def call_back(self, campaign_id: int, limit: int) -> int | None:
        """Wake jobs that were put off in one step; None when none are left."""
        ...

    def survey(self) -> Survey:
        """Begin a look over the queue."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A row, the id under which its job was looked for last, and where that stands."""

    row: DueRow
    job_id: str
    standing: Standing


class QueueSweep:
    """Fulfils delivery's Sweep over the queues by name; rows without one go to `default_queue`.

    `whole_rows` gives pages of self-contained rows with the mails that they carry.
    """

    def __init__(
        self, queue_of: Callable[[str], JobQueue], default_queue: str, whole_rows: WholeRows
    ) -> None:
        self._queue_of = queue_of
        self._default_queue = default_queue
        self._whole_rows = whole_rows
        self._surveys: dict[str, Survey] = {}

    async def needy(self, rows: Sequence[DueRow]) -> Sequence[DueRow]:
        """Those rows whose job is absent, has finished, or is in no list."""
        return [
            one.row
            for name, few in self._by_queue(rows)
            for one in await self._find(name, few)
            if one.standing in _NEEDY
        ]

    async def revive(self, rows: Sequence[DueRow]) -> int:
        """Give each row a live job unless it has one; how many needed it."""
        return sum([await self._serve(name, few) for name, few in self._by_queue(rows)])

    async def wake(self, rows: Sequence[DueRow]) -> int:
        """Revive, and let delayed jobs run at once; how many needed either."""
        return sum([await self._serve(name, few, wake=True) for name, few in self._by_queue(rows)])

    async def _serve(self, name: str, rows: Sequence[DueRow], *, wake: bool = False) -> int:
        queue = self._queue_of(name)
        by_standing: dict[Standing, list[_Found]] = defaultdict(list)
        for one in await self._find(name, rows):
            by_standing[one.standing].append(one)
        count = sum(map(bool, await queue.revive_known(_ids(by_standing[Standing.FINISHED]))))
        lost = _ids(by_standing[Standing.UNLISTED])
        for start in range(0, len(lost), _SEARCHED_AT_ONCE):
            searched = lost[start : start + _SEARCHED_AT_ONCE]
            count += sum(map(bool, await queue.revive_known(searched)))
        count += await self._add(queue, [one.row for one in by_standing[Standing.ABSENT]])
        if wake:
            count += await queue.promote(_ids(by_standing[Standing.DELAYED]))
        return count

    async def _add(self, queue: JobQueue, rows: Sequence[DueRow]) -> int:
        own = [row for row in rows if row.idempotency_key is None]
        await queue.add_all([job_of(row) for row in own])
        added = len(own)
        carrying = [row.id for row in rows if row.idempotency_key is not None]
        if carrying:
            async for page in self._whole_rows(carrying):
                await queue.add_all([job_of(row) for row in page])
                added += len(page)
        return added

    async def _find(self, name: str, rows: Sequence[DueRow]) -> list[_Found]:
        """Look first under the id that the app gave; a row's job may also be one of ours by now.

        In a queue that was emptied the app's next job may have that id.
        """
        found = await self._look(
            name, [(row, row.job_id or job_id_of(row), row.job_timestamp) for row in rows]
        )
        gone = [one for one in found if one.standing is Standing.ABSENT]
        own = [(one.row, job_id_of(one.row), None) for one in gone]
        again = await self._look(name, own) if own else []
        return [one for one in found if one.standing is not Standing.ABSENT] + again

    async def _look(
        self, name: str, sought: Sequence[tuple[DueRow, str, int | None]]
    ) -> list[_Found]:
        if name not in self._surveys:
            self._surveys[name] = self._queue_of(name).survey()
        standings = await self._surveys[name].look(
            [job_id for _, job_id, _ in sought], [added_ms for _, _, added_ms in sought]
        )
        return [
            _Found(row, job_id, standing)
            for (row, job_id, _), standing in zip(sought, standings, strict=True)
        ]

    def _by_queue(self, rows: Sequence[DueRow]) -> list[tuple[str, list[DueRow]]]:
        by_queue: dict[str, list[DueRow]] = defaultdict(list)
        for row in rows:
            by_queue[row.queue or self._default_queue].append(row)
        return list(by_queue.items())


def _ids(found: Sequence[_Found]) -> list[str]:
    return [one.job_id for one in found]


def job_id_of(row: DueRow) -> str:
    """Give the id of the job that a row should have, unless the app gave it one."""
    if row.campaign_id is None or row.recipient_id is None:
        return inline_job_id(row.id)
    return mail_job_id(row.campaign_id, row.recipient_id, row.step)


def job_of(row: DueRow) -> MailJob:
    """Describe the job that a row should have; a self-contained one with the mail it carries."""
    if row.inline is not None and row.idempotency_key is not None:
        job = inline_job(row.id, row.idempotency_key, row.campaign_id, row.inline)
        return dataclasses.replace(job, delay_seconds=max(row.due_in_seconds, 0.0))
    if row.campaign_id is None or row.recipient_id is None:
        raise AssertionError("the schema lets no row be neither a campaign's nor self-contained")
    return mail_job(row.campaign_id, row.recipient_id, row.step, delay_seconds=row.due_in_seconds)
