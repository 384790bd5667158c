"""What a demo is told, and the pace that follows from it. Values only."""

from __future__ import annotations

from dataclasses import dataclass

RECIPIENTS_MAX = 100_000
FOLLOW_UP_DELAY_SECONDS = 3
MAIL_LATENCY_MS = 200.0

_CONCURRENCY_MOST = 20
# Longer than the delay of the follow-ups: mails are in flight without a gap until the end, so that
# the redeploy finds some however long the new worker takes to come up.
_FIRST_MAILS_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Options:
    """`recipients` from 1 to 100,000; ValueError otherwise.

    `keep`: the servers stay up after the table until a signal comes. `as_json`: one JSON object on
    stdout instead of the table.
    """

    recipients: int = 500
    redeploy: bool = True
    keep: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.recipients <= RECIPIENTS_MAX:
            raise ValueError(f"recipients must be from 1 to {RECIPIENTS_MAX}")

    @property
    def mails(self) -> int:
        """How many mails the campaign comes to: one and a follow-up for each recipient."""
        return 2 * self.recipients


@dataclass(frozen=True, slots=True)
class Pace:
    """Jobs at once in each worker, and what the SMTP server takes for a mail."""

    concurrency: int
    latency_ms: float


def pace_of(recipients: int) -> Pace:
    """Choose a pace at which one worker needs 4 seconds or more for the first mails.

    From 400 recipients on that is 20 jobs at once and 200 ms a mail; fewer recipients get fewer
    jobs at once, and fewer than 20 a slower SMTP server.
    """
    seconds_at_one = recipients * MAIL_LATENCY_MS / 1000
    concurrency = max(1, min(_CONCURRENCY_MOST, int(seconds_at_one / _FIRST_MAILS_SECONDS)))
    stretch = max(1.0, _FIRST_MAILS_SECONDS / seconds_at_one)
    return Pace(concurrency, MAIL_LATENCY_MS * stretch)
