"""Short words for what tests of tracking write and read."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from campaign_worker.mail.compose import normalize
from campaign_worker.storage.tracking import PostgresEvents, PostgresUnsubscribes
from campaign_worker.tracking.classify import TIMING, EventKind, Visitor
from campaign_worker.tracking.events import TrackingEvent, new_event_id
from metrics import TrackingAnswered, TrackingDropped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics import Event
    from tests.integration.storage.kit import Seeded, World

LONG_AFTER = TIMING.prefetch_seconds_after_send + 60.0
"""Seconds after a send at which nobody is a prefetch any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A sent message: its row, its campaign, and the moment from which its times are told."""

    id: int
    campaign: Seeded
    at: dt.datetime


def event(
    sent: Sent,
    kind: EventKind = EventKind.OPEN,
    *,
    after: float = LONG_AFTER,
    target: int | None = None,
    head: bool = False,
    visitor: Visitor = Visitor.HUMAN,
    machine: bool | None = None,
) -> TrackingEvent:
    """Make an event `after` seconds after the send; a click has the target 1 unless told."""
    if target is None and kind is EventKind.CLICK:
        target = 1
    return TrackingEvent(
        id=new_event_id(),
        message_id=sent.id,
        link_id=None,
        target=target,
        kind=kind,
        head=head,
        visitor=Visitor.SCANNER if head else visitor,
        machine=head or (visitor in (Visitor.PREFETCH, Visitor.SCANNER))
        if machine is None
        else machine,
        client_hash=None,
        user_agent="Mozilla/5.0 (X11)",
        occurred_at=sent.at + dt.timedelta(seconds=after),
    )


class Tracked:
    """A world in which mails have been sent and are tracked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events = PostgresEvents(world.database, TIMING)
        self.unsubscribes = PostgresUnsubscribes(world.database, normalize=normalize)

    async def sent(self, campaign: Seeded | None = None, index: int = 0) -> Sent:
        """Send a mail; its marks are two days old, so that events of a day ago fit behind."""
        campaign = campaign or await self.world.campaign()
        claim = await self.world.sent(campaign.request(index))
        at = await self.world.value(
            "UPDATE $messages SET marked_at = marked_at - interval '2 days',"
            " sent_at = sent_at - interval '2 days' WHERE id = $1 RETURNING marked_at",
            claim.id,
        )
        return Sent(claim.id, campaign, at)

    async def classes(self, events: Sequence[TrackingEvent]) -> list[str]:
        """Read the classes of events; those of machines end in a star."""
        rows = await self.world.rows("SELECT id, class, machine FROM $tracking_events")
        found = {row["id"].hex: row["class"] + ("*" if row["machine"] else "") for row in rows}
        return [found.get(one.id, "absent") for one in events]

    async def firsts(self, sent: Sent) -> tuple[float | None, float | None]:
        """Read the first open and click, in seconds after the send."""
        row = await self.world.row(sent.id)
        times = (row["first_opened_at"], row["first_clicked_at"])
        first, second = (
            None if time is None else round((time - sent.at).total_seconds(), 6) for time in times
        )
        return first, second

    async def counts(self, sent: Sent) -> dict[str, int]:
        """Read the counts of the mail's campaign that are not nought, `sent` left out."""
        counts: dict[str, Any] = await self.world.counts(sent.campaign)
        return {name: count for name, count in counts.items() if name != "sent"}

    async def assert_true(self) -> None:
        """Hold that counts are what rows say."""
        assert await self.world.campaigns.untrue_counts() == []


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def batches(self) -> list[int]:
        """Give the sizes of the batches that were answered."""
        return [
            sum(event.counts.values())
            for event in self.events
            if isinstance(event, TrackingAnswered)
        ]

    def dropped(self) -> int:
        return sum(event.count for event in self.events if isinstance(event, TrackingDropped))
