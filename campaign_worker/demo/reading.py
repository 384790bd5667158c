"""What the readers of a demo did beside what Postgres keeps of it. Pure; asks nobody.

The readers count themselves; no class and no count is taken over from the tracker.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from campaign_worker.tracking.classify import EventKind, Visitor


class Seen(NamedTuple):
    """An open or a click of the mail with this Message-ID."""

    message_id: str
    kind: EventKind
    visitor: Visitor
    machine: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """A campaign's counts: `opened` and `clicked` are mails, `unsubscribed` recipients.

    The others are requests, by people and by machines. A person's click opens the mail too.
    """

    opened: int
    opens: int
    machine_opens: int
    clicked: int
    clicks: int
    machine_clicks: int
    unsubscribed: int


NAMES: Final = {
    "opened": "mails opened by people",
    "opens": "opens by people",
    "machine_opens": "opens by machines",
    "clicked": "mails clicked by people",
    "clicks": "clicks by people",
    "machine_clicks": "clicks by machines",
    "unsubscribed": "recipients unsubscribed",
}
"""What people call the counts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the readers did: each request that was answered.

    `unsubscribed`: who did, and whether that was answered so early that no follow-up may come.
    `wrong`: answers that were not what they have to be.
    """

    seen: Mapping[Seen, int]
    unsubscribed: Mapping[str, bool]
    wrong: Mapping[str, int]

    @property
    def counts(self) -> Counts:
        """What a campaign's counts must be after this."""
        totals: Counter[tuple[EventKind, bool]] = Counter()
        opened, clicked = set(), set()
        for seen, times in self.seen.items():
            totals[seen.kind, seen.machine] += times
            if not seen.machine:
                opened.add(seen.message_id)
                if seen.kind is EventKind.CLICK:
                    clicked.add(seen.message_id)
        return Counts(
            opened=len(opened),
            opens=totals[EventKind.OPEN, False],
            machine_opens=totals[EventKind.OPEN, True],
            clicked=len(clicked),
            clicks=totals[EventKind.CLICK, False],
            machine_clicks=totals[EventKind.CLICK, True],
            unsubscribed=len(self.unsubscribed),
        )


@dataclass(frozen=True, slots=True)
class Tracked:
    """What Postgres keeps: events by mail and class, who is unsubscribed, the campaign's counts."""

    seen: Mapping[Seen, int]
    unsubscribed: frozenset[str]
    counts: Counts


def differences(reading: Reading, tracked: Tracked) -> int:
    """By how much the two differ: mail by mail, recipient by recipient, count by count."""
    did, kept = Counter(reading.seen), Counter(tracked.seen)
    return (
        ((did - kept) + (kept - did)).total()
        + len(reading.unsubscribed.keys() ^ tracked.unsubscribed)
        + sum(abs(got - due) for _, got, due in _counts(reading, tracked))
    )


def problems(reading: Reading, tracked: Tracked) -> Iterator[str]:
    """Name each difference, and what was answered wrongly."""
    for name, got, due in _counts(reading, tracked):
        if got != due:
            yield f"{got} {NAMES[name]} in Postgres instead of {due}"
    different = differences(reading, tracked)
    if different:
        yield f"{different} differences between Postgres and what the readers did"
    for what, times in sorted(reading.wrong.items()):
        yield f"{times} times {what}"


def _counts(reading: Reading, tracked: Tracked) -> Iterator[tuple[str, int, int]]:
    due = reading.counts
    for field in dataclasses.fields(Counts):
        yield field.name, getattr(tracked.counts, field.name), getattr(due, field.name)
