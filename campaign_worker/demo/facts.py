"""What was counted in a demo, as it was found. Values only; judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from campaign_worker.demo.reading import Reading, Tracked


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger; `state` as in Postgres, `attempts` those that were spent."""

    address: str
    step: int
    state: str
    message_id: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A mail that the SMTP server accepted for one address."""

    address: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Jobs:
    """What is left in Redis: jobs that are neither completed nor failed, by state, and the rest.

    `stalled` and `retried` count jobs that stalled or were attempted more than once.
    """

    left: Mapping[str, int]
    completed: int
    failed: int
    stalled: int
    retried: int


@dataclass(frozen=True, slots=True)
class Handover:
    """What the old worker says became of its jobs, from the signal to its exit after `seconds`."""

    in_flight: int
    finished: int
    handed_back: int
    abandoned: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was counted. `expected` are the addresses; each gets a mail of every step.

    `sent_count` is the campaign's own count, `usage_events` the rows that a bill would be made
    from, `untrue_counts` campaigns whose counts verify_counts finds wrong. `reading` is what the
    readers did, `tracked` what Postgres keeps of it. `handover` is None without a redeploy.
    """

    expected: Sequence[str]
    steps: int
    enqueued: int
    rows: Sequence[Row]
    deliveries: Sequence[Delivery]
    sent_count: int
    usage_events: int
    untrue_counts: int
    jobs: Jobs
    reading: Reading
    tracked: Tracked
    handover: Handover | None
    seconds: float

    @property
    def held_back(self) -> frozenset[tuple[str, int]]:
        """Mails that must not go out, by address and step: after an unsubscribe.

        Where that came too close to the follow-up, either is right; but then the row says which.
        """
        skipped = {(row.address, row.step) for row in self.rows if row.state == "skipped"}
        return frozenset(
            (address, step)
            for address, in_time in self.reading.unsubscribed.items()
            for step in range(1, self.steps)
            if in_time or (address, step) in skipped
        )
