"""Old events go; what they were counted as stays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from campaign_worker.storage.tracking import PostgresArchive
from campaign_worker.tracking.classify import EventKind, Visitor
from campaign_worker.tracking.retention import Retention
from shutdown.testing import stress
from tests.integration.storage.kit import opened
from tests.integration.tracking.kit import Sent, Tracked, event
from tests.integration.tracking.site import site_of
from tests.support import eventually

if TYPE_CHECKING:
    from campaign_worker.tracking.events import TrackingEvent

DAY = 86_400.0


def _of_all_sorts(sent: Sent, after: float) -> list[TrackingEvent]:
    return [
        event(sent, after=after),
        event(sent, after=after + 10, visitor=Visitor.SCANNER),
        event(sent, EventKind.CLICK, after=after + 20),
        event(sent, EventKind.CLICK, after=after + 40, visitor=Visitor.SCANNER),
    ]


async def test_old_events_go_and_counts_and_first_times_stay(tracked: Tracked) -> None:
    sent = await tracked.sent()
    await tracked.events.write([*_of_all_sorts(sent, 100.0), *_of_all_sorts(sent, 1.5 * DAY)])
    counts, firsts = await tracked.counts(sent), await tracked.firsts(sent)
    retention = Retention(PostgresArchive(tracked.world.database), 1)
    assert await retention.run() == 4
    assert await tracked.world.value("SELECT count(*) FROM $tracking_events") == 4
    assert await retention.run() == 0
    assert (await tracked.counts(sent), await tracked.firsts(sent)) == (counts, firsts)
    assert firsts == (100.0, 120.0)
    await tracked.assert_true()


async def test_what_comes_after_the_archive_changes_no_first_time(tracked: Tracked) -> None:
    sent = await tracked.sent()
    await tracked.events.write(_of_all_sorts(sent, 100.0))
    await Retention(PostgresArchive(tracked.world.database), 1).run()
    burst = [event(sent, EventKind.CLICK, after=1.5 * DAY + n / 10, target=n) for n in range(3)]
    for one in burst:
        await tracked.events.write([one])
    assert await tracked.firsts(sent) == (100.0, 120.0)
    assert (await tracked.counts(sent))["machine_click"] == 4
    await tracked.assert_true()


async def test_replicas_that_archive_at_once_archive_each_event_once(
    tracked: Tracked, database_url: str
) -> None:
    sent = await tracked.sent()
    for after in range(100, 140):
        await tracked.events.write(_of_all_sorts(sent, float(after) * 100))
    before = await tracked.counts(sent)
    async with opened(database_url) as elsewhere:
        archives = [PostgresArchive(tracked.world.database), PostgresArchive(elsewhere)]
        moved = 0
        while part := sum(await asyncio.gather(*(one.archive(1, 30) for one in archives * 2))):
            moved += part
    assert moved == 160
    assert await tracked.counts(sent) == before
    await tracked.assert_true()


async def test_an_event_of_today_is_not_deleted(tracked: Tracked) -> None:
    sent = await tracked.sent()
    await tracked.events.write([event(sent, after=1.5 * DAY)])
    with pytest.raises(asyncpg.CheckViolationError, match="for a day"):
        await tracked.world.execute("DELETE FROM $tracking_events")
    await tracked.assert_true()


async def test_it_runs_by_itself_and_stops_whenever_it_is_told(tracked: Tracked) -> None:
    sent = await tracked.sent()
    await tracked.events.write(_of_all_sorts(sent, 100.0))
    archive = PostgresArchive(tracked.world.database)
    retention = Retention(archive, 1, every_seconds=0.01)
    await retention.start()

    async def empty() -> bool:
        return not await tracked.world.value("SELECT count(*) FROM $tracking_events")

    await eventually(empty)
    await retention.stop()
    await stress(lambda: Retention(archive, 1, every_seconds=0.01))


async def test_whoever_tracks_keeps_events_as_long_as_the_setting_says(
    tracked: Tracked, redis_url: str, prefix: str
) -> None:
    sent = await tracked.sent()
    await tracked.events.write([event(sent, after=100.0), event(sent, after=1.5 * DAY)])
    days = {"tracking_retention_days": 1}
    async with site_of(tracked.world.database, redis_url, prefix, **days) as site:
        await site.parts.start()
        await eventually(lambda: _left(tracked, 1))
    assert await tracked.counts(sent) == {"open": 2, "unique_open": 1}


async def _left(tracked: Tracked, count: int) -> bool:
    return bool(await tracked.world.value("SELECT count(*) FROM $tracking_events") == count)
