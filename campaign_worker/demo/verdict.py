"""Whether a campaign adds up: what was enqueued, what the SMTP server accepted, what Postgres says.

Pure: evidence in, report out. The addresses that must have been reached, and those that must not,
are counted by the demo itself; neither the workers nor their rows are asked how many they should
have been.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from campaign_worker.demo import reading as readings
from campaign_worker.demo.facts import Evidence, Handover
from campaign_worker.demo.reading import Counts

FINAL = frozenset({"sent", "failed", "skipped", "in_doubt"})


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers, and a sentence for each that does not add up.

    `enqueued` counts the jobs of first mails, `sent` and `follow_ups` rows (all, and those of
    follow-ups), `accepted` mails, `unwanted` those after an unsubscribe. `miscounted` is by how
    much Postgres differs from the SMTP server and from what the readers did. `opened` and all to
    `unsubscribed` are Postgres' counts, `read` what they must be after what the readers did.
    `handed_over` counts the jobs in flight at the signal that were finished all the same:
    `finished_in_drain` by the old worker, `handed_back` to the queue and then by the new one.
    """

    enqueued: int
    accepted: int
    sent: int
    follow_ups: int
    lost: int
    duplicated: int
    stray: int
    unwanted: int
    miscounted: int
    opened: int
    opens: int
    machine_opens: int
    clicked: int
    clicks: int
    machine_clicks: int
    unsubscribed: int
    read: Counts
    failed: int
    skipped: int
    in_doubt: int
    unfinished: int
    jobs_left: int
    jobs_failed: int
    stalled: int
    attempts_spent: int
    redeployed: bool
    handed_over: int
    finished_in_drain: int
    handed_back: int
    drain_seconds: float
    seconds: float
    problems: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Mails:
    """Deliveries beside rows; a mail is known by its address and Message-ID."""

    lost: int
    duplicated: int
    stray: int
    unwanted: int
    miscounted: int


def judge(evidence: Evidence) -> Report:
    """Compare everything with everything."""
    states = Counter(row.state for row in evidence.rows)
    mails = _compare(evidence)
    handover = evidence.handover or Handover(0, 0, 0, 0, 0.0)
    jobs = evidence.jobs
    return Report(
        enqueued=evidence.enqueued,
        accepted=len(evidence.deliveries),
        sent=states["sent"],
        follow_ups=sum(row.state == "sent" and row.step > 0 for row in evidence.rows),
        lost=mails.lost,
        duplicated=mails.duplicated,
        stray=mails.stray,
        unwanted=mails.unwanted,
        miscounted=mails.miscounted + readings.differences(evidence.reading, evidence.tracked),
        **dataclasses.asdict(evidence.tracked.counts),
        read=evidence.reading.counts,
        failed=states["failed"],
        skipped=states["skipped"],
        in_doubt=states["in_doubt"],
        unfinished=sum(count for state, count in states.items() if state not in FINAL),
        jobs_left=sum(jobs.left.values()),
        jobs_failed=jobs.failed,
        stalled=jobs.stalled,
        attempts_spent=sum(row.attempts for row in evidence.rows) + jobs.retried,
        redeployed=evidence.handover is not None,
        handed_over=handover.finished + handover.handed_back,
        finished_in_drain=handover.finished,
        handed_back=handover.handed_back,
        drain_seconds=round(handover.seconds, 2),
        seconds=round(evidence.seconds, 1),
        problems=(
            *_problems(evidence, mails, states),
            *_problems_of_states(states, len(evidence.held_back)),
            *readings.problems(evidence.reading, evidence.tracked),
            *_problems_of(evidence.handover),
        ),
    )


def _compare(evidence: Evidence) -> _Mails:
    accepted = Counter((each.address, each.message_id) for each in evidence.deliveries)
    rows = {(row.address, row.message_id): row for row in evidence.rows if row.message_id}
    held_back = evidence.held_back
    steps = range(evidence.steps)
    due = {(address, step) for address in evidence.expected for step in steps} - held_back
    known = rows.keys() & accepted.keys()
    reached = {(rows[key].address, rows[key].step) for key in known}
    sent = {key for key, row in rows.items() if row.state == "sent"}
    sent_rows = sum(row.state == "sent" for row in evidence.rows)
    return _Mails(
        lost=len(due - reached),
        duplicated=_duplicates(evidence, accepted),
        stray=sum(count for key, count in accepted.items() if key not in rows),
        unwanted=len(reached & held_back),
        miscounted=len(sent ^ known)
        + abs(evidence.sent_count - sent_rows)
        + abs(evidence.usage_events - sent_rows)
        + evidence.untrue_counts,
    )


def _duplicates(evidence: Evidence, accepted: Mapping[tuple[str, str], int]) -> int:
    """Count repeated Message-IDs by address, or what is beyond its steps where that is more."""
    mails = Counter(each.address for each in evidence.deliveries)
    distinct = Counter(address for address, _ in accepted)
    return sum(
        max(mails[address] - distinct[address], mails[address] - evidence.steps, 0)
        for address in evidence.expected
    )


def _problems(evidence: Evidence, mails: _Mails, states: Mapping[str, int]) -> Iterator[str]:
    recipients, rows_due = len(evidence.expected), len(evidence.expected) * evidence.steps
    mails_due = rows_due - len(evidence.held_back)
    jobs = evidence.jobs
    spent = sum(row.attempts for row in evidence.rows)
    checks = (
        (evidence.enqueued != recipients, f"{evidence.enqueued} of {recipients} jobs enqueued"),
        (
            len(evidence.deliveries) != mails_due,
            f"the SMTP server accepted {len(evidence.deliveries)} mails instead of {mails_due}",
        ),
        (
            states.get("sent", 0) != mails_due,
            f"{states.get('sent', 0)} rows are sent instead of {mails_due}",
        ),
        (len(evidence.rows) != rows_due, f"{len(evidence.rows)} rows instead of {rows_due}"),
        (mails.lost, f"{mails.lost} mails are lost"),
        (mails.duplicated, f"{mails.duplicated} mails went out more than once"),
        (mails.stray, f"{mails.stray} mails belong to no row"),
        (mails.unwanted, f"{mails.unwanted} mails went to who had unsubscribed"),
        (mails.miscounted, f"{mails.miscounted} differences between Postgres and the SMTP server"),
        (spent, f"{spent} attempts were spent on rows"),
        (sum(jobs.left.values()), f"jobs are left in Redis: {_listed(jobs.left)}"),
        (jobs.completed != rows_due, f"{jobs.completed} jobs completed instead of {rows_due}"),
        (jobs.failed, f"{jobs.failed} jobs failed"),
        (jobs.stalled, f"{jobs.stalled} jobs stalled"),
        (jobs.retried, f"{jobs.retried} jobs were attempted more than once"),
    )
    yield from (sentence for wrong, sentence in checks if wrong)


def _problems_of_states(states: Mapping[str, int], held_back: int) -> Iterator[str]:
    """Name rows in any state but sent; as many are skipped as were to be held back."""
    for state in sorted({*states, "skipped"} - {"sent"}):
        count = states.get(state, 0)
        due = held_back if state == "skipped" else 0
        if count != due:
            yield f"{count} rows are {state}" + (f" instead of {due}" if due else "")


def _problems_of(handover: Handover | None) -> Iterator[str]:
    if handover is None:
        return
    told = handover.finished + handover.handed_back + handover.abandoned
    if not told:
        yield "nothing was in flight when the signal came"
    if handover.abandoned:
        yield f"the old worker abandoned {handover.abandoned} jobs"
    if told < handover.in_flight:
        yield f"the old worker had {handover.in_flight} jobs in flight and accounts for {told}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count)
