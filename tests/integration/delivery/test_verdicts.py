"""What the server said becomes the state of the row and the ending of the job, by one table."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from campaign_worker.assembly import _backoff_seconds
from campaign_worker.delivery.model import Accepted, Refusal
from campaign_worker.errors import SmtpLost, SmtpPhase, SmtpRefused
from campaign_worker.mail.compose import ComposerOptions, MailComposer
from campaign_worker.queue.endings import Completed, Deferred, Failed, HandedBack
from tests.integration.delivery.kit import NOW_MS, Bench, bench_of, job_of

RCPT, BODY = SmtpPhase.RCPT, SmtpPhase.BODY
FINAL, RETRY = "fails for good", "is tried again after a minute"
DEFERRED = "is deferred for a minute"

VERDICTS: list[tuple[Exception, str, str | None, int, str, int]] = [
    # answer, state, reason, attempts, the job, suppressed
    (SmtpRefused(RCPT, 550, "5.1.1", "no such user"), "failed", "hard_bounce", 1, FINAL, 1),
    (SmtpRefused(RCPT, 550, None, "no"), "failed", "hard_bounce", 1, FINAL, 1),
    (SmtpRefused(RCPT, 553, "5.7.1", "policy"), "scheduled", None, 0, DEFERRED, 0),
    (SmtpRefused(BODY, 554, None, "spam"), "failed", "rejected", 1, FINAL, 0),
    (SmtpRefused(BODY, 552, "5.3.4", "too big"), "failed", "rejected", 1, FINAL, 0),
    (SmtpRefused(RCPT, 451, None, "later"), "scheduled", None, 1, RETRY, 0),
    (SmtpRefused(RCPT, 552, "5.2.2", "full"), "scheduled", None, 1, RETRY, 0),
    (SmtpRefused(BODY, 451, "4.3.0", "later"), "scheduled", None, 1, RETRY, 0),
    (SmtpLost(SmtpPhase.RCPT, "gone"), "scheduled", None, 1, RETRY, 0),
    (SmtpRefused(RCPT, 452, "4.3.2", "slow"), "scheduled", None, 0, DEFERRED, 0),
    (SmtpRefused(SmtpPhase.MAIL, 421, None, "busy"), "scheduled", None, 0, DEFERRED, 0),
    (SmtpRefused(SmtpPhase.MAIL, 550, None, "unknown"), "scheduled", None, 0, DEFERRED, 0),
    (SmtpRefused(SmtpPhase.MAIL, 553, "5.1.7", "unknown"), "scheduled", None, 0, DEFERRED, 0),
    (SmtpRefused(SmtpPhase.MAIL, 552, "5.3.4", "too big"), "failed", "rejected", 1, FINAL, 0),
    (SmtpLost(BODY, "gone"), "in_doubt", "no_answer_to_final_dot", 0, FINAL, 0),
]


def _ids(value: Any) -> str | None:
    return str(value) if isinstance(value, Exception) else None


@pytest.mark.parametrize(
    ("answer", "state", "reason", "attempts", "job", "suppressed"), VERDICTS, ids=_ids
)
async def test_each_answer_has_one_state_and_one_ending(
    bench: Bench,
    answer: Exception,
    state: str,
    reason: str | None,
    attempts: int,
    job: str,
    suppressed: int,
) -> None:
    bench.smtp.answers = [answer]
    request = (await bench.world.campaign()).request()
    ending = await bench.run(request)
    row = await bench.world.row(request)
    assert (row["state"], row["reason"], row["attempts"]) == (state, reason, attempts)
    assert _said(ending) == job
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == suppressed
    if state == "scheduled":
        due_in = await bench.world.value(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM $messages"
        )
        assert due_in == pytest.approx(60, abs=1)
    assert await bench.world.campaigns.untrue_counts() == []


def _said(ending: Any) -> str:
    match ending:
        case Failed(_, retry=False):
            return FINAL
        case Failed(_, _, 60_000):
            return RETRY
        case Deferred(until_ms) if until_ms == NOW_MS + 60_000:
            return DEFERRED
        case _:
            return repr(ending)


async def test_the_last_attempt_is_the_rows_and_not_the_jobs(database_url: str) -> None:
    async with bench_of(database_url, floor_seconds=0.0) as bench:
        request = (await bench.world.campaign()).request()
        delays = []
        for _ in range(3):
            bench.smtp.answers = [SmtpRefused(RCPT, 451, None, "later")]
            await bench.world.execute("UPDATE $messages SET due_at = now()")
            # Each time a new job: its own count stays at 0.
            ending = await bench.run(job_of(request, attempts_made=0))
            assert isinstance(ending, Failed)
            delays.append((ending.retry, ending.delay_ms))
        # With a floor of 0 the job's own backoff of 100 ms is the delay.
        assert delays == [(True, 100), (True, 100), (False, None)]
        row = await bench.world.row(request)
        assert (row["state"], row["reason"], row["attempts"]) == ("failed", "exhausted", 3)


@pytest.mark.parametrize("options", [{}, {"attempts": 0}, {"attempts": "3"}, {"attempts": None}])
async def test_a_job_without_attempts_has_one(bench: Bench, options: dict[str, Any]) -> None:
    bench.smtp.answers = [SmtpRefused(RCPT, 451, None, "later")]
    request = (await bench.world.campaign()).request()
    ending = await bench.run(job_of(request, opts=options))
    assert _said(ending) == FINAL
    assert (await bench.world.row(request))["reason"] == "exhausted"


async def test_throttles_cost_no_attempt_and_never_spin(database_url: str) -> None:
    async with bench_of(database_url, floor_seconds=0.0) as bench:
        request = (await bench.world.campaign()).request()
        for _ in range(5):
            bench.smtp.answers = [SmtpRefused(RCPT, 421, None, "slow down")]
            await bench.world.execute("UPDATE $messages SET due_at = now()")
            assert await bench.run(request) == Deferred(NOW_MS + 1000)
        assert (await bench.world.row(request))["attempts"] == 0


async def test_a_servers_hint_is_heeded(bench: Bench) -> None:
    bench.smtp.answers = [SmtpRefused(RCPT, 451, "4.7.1", "greylisted, try again in 300 seconds")]
    ending = await bench.run((await bench.world.campaign()).request())
    assert isinstance(ending, Failed)
    assert ending.delay_ms == 300_000


async def test_a_server_that_refuses_us_holds_intake(bench: Bench) -> None:
    bench.smtp.answers = [SmtpRefused(SmtpPhase.MAIL, 530, "5.7.0", "authenticate first")]
    await bench.run((await bench.world.campaign()).request())
    assert bench.notes.held[0] == "hold transport default"


async def test_policy_resend_sends_what_nobody_knows_of_again_up_to_the_limit(
    database_url: str,
) -> None:
    async with bench_of(database_url, resend_ambiguous=True) as bench:
        request = (await bench.world.campaign()).request()
        bench.smtp.answers = [SmtpLost(BODY, "gone")] * 3
        endings = [await bench.run(request) for _ in range(3)]
        assert endings[:2] == [HandedBack("in_doubt_resend")] * 2
        assert _said(endings[2]) == FINAL
        assert bench.smtp.log.count("body") == 3
        assert await bench.world.state(request) == "in_doubt"


async def test_of_several_recipients_only_the_refused_ones_are_suppressed(bench: Bench) -> None:
    bench.composer.recipients = ("a@example.com", "b@example.com", "c@example.com")
    refused = (
        Refusal("b@example.com", 550, "5.1.1", "no such user"),
        Refusal("c@example.com", 451, None, "later"),
    )
    bench.smtp.answers = [Accepted("250 ok", refused)]  # type: ignore[list-item]
    request = (await bench.world.campaign()).request()
    assert isinstance(await bench.run(request), Completed)
    rows = await bench.world.rows("SELECT address FROM $suppressions")
    assert [row["address"] for row in rows] == ["b@example.com"]
    row = await bench.world.row(request)
    assert row["detail"] == "250 ok; 2 of 3 recipients refused: 550 no such user"


@pytest.mark.parametrize("phase", [BODY, SmtpPhase.DATA])
async def test_a_bounce_that_names_nobody_suppresses_nobody_of_several(
    bench: Bench, phase: SmtpPhase
) -> None:
    bench.composer.recipients = ("a@example.com", "b@example.com")
    bench.smtp.answers = [SmtpRefused(phase, 550, "5.1.1", "one of them is unknown")]
    request = (await bench.world.campaign()).request()
    assert _said(await bench.run(request)) == FINAL
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == 0
    assert await bench.world.state(request) == "failed"


async def test_a_reply_that_postgres_cannot_hold_loses_no_mail(bench: Bench) -> None:
    replies = ["250 \x00", "250 \ud800", "250 " + "x" * 10_000]
    bench.smtp.answers = [Accepted(reply) for reply in replies]  # type: ignore[misc]
    campaign = await bench.world.campaign(3)
    for index in range(3):
        assert isinstance(await bench.run(campaign.request(index)), Completed)
    assert await bench.world.counts(campaign) == {"sent": 3}


async def test_a_backoff_beyond_all_reason_is_cut_rather_than_refused(
    database_url: str,
) -> None:
    async with bench_of(database_url) as bench:

        async def absurd(_job: object) -> float:
            return 1e300

        bench.processor._options = dataclasses.replace(bench.options, backoff_seconds=absurd)
        bench.smtp.answers = [SmtpRefused(RCPT, 451, None, "later")]
        ending = await bench.run((await bench.world.campaign()).request())
        assert isinstance(ending, Failed)
        assert ending.delay_ms == 31_622_400_000


@pytest.mark.parametrize(
    "backoff",
    [
        {"type": "fixed", "delay": "soon"},
        {"type": "exponential", "delay": [1]},
        {"type": "fixed", "delay": float("inf")},
        {"type": "fixed", "delay": 10**400},
        {"type": "fixed", "delay": 5, "jitter": "some"},
        {"type": ["fixed"], "delay": 5},
    ],
    ids=["word", "list", "infinity", "huge", "jitter", "type"],
)
async def test_a_backoff_that_is_none_keeps_no_mail_back(
    bench: Bench, backoff: dict[str, Any]
) -> None:
    bench.processor._options = dataclasses.replace(bench.options, backoff_seconds=_backoff_seconds)
    campaign = await bench.world.campaign()
    job = job_of(campaign.request(), opts={"attempts": 3, "backoff": backoff})
    assert isinstance(await bench.run(job), Completed)
    assert await bench.world.counts(campaign) == {"sent": 1}


@pytest.mark.parametrize("data", ["9" * 5000, "[" * 3000 + "]" * 3000], ids=["digits", "depth"])
async def test_data_that_no_program_can_read_fails_its_own_mail_and_no_other_of_its_batch(
    database_url: str, data: str
) -> None:
    composer = MailComposer(ComposerOptions("News <news@example.org>"))
    async with bench_of(database_url, composer=composer) as bench:
        campaign = await bench.world.campaign(2)
        await bench.world.execute(
            "UPDATE $recipients SET data = $1::jsonb WHERE id = $2",
            f'{{"a": {data}}}',
            campaign.recipients[0],
        )
        endings = await asyncio.gather(*(bench.run(campaign.request(n)) for n in range(2)))
        rows = [await bench.world.row(campaign.request(n)) for n in range(2)]
    assert [type(ending) for ending in endings] == [Failed, Completed]
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("failed", "render_error"),
        ("sent", None),
    ]
    assert rows[0]["detail"].endswith("in the recipient's data or the headers")


async def test_a_retry_of_the_job_that_ran_out_of_attempts_is_known_whatever_it_had_counted(
    bench: Bench,
) -> None:
    request = (await bench.world.campaign()).request()
    bench.smtp.answers = [SmtpRefused(RCPT, 451, None, "later")] * 3
    # The third attempt is that of a job which was made anew, and counts from 0.
    for job_id, counted in [("first", 0), ("first", 1), ("second", 0)]:
        await bench.world.execute("UPDATE $messages SET due_at = now()")
        await bench.run(job_of(request, id=job_id, attempts_made=counted))
    assert (await bench.world.row(request))["reason"] == "exhausted"
    # Its worker died before the job had failed: nobody asks for more.
    again = await bench.run(job_of(request, id="second", attempts_made=0))
    assert _said(again) == FINAL
    retried = await bench.run(job_of(request, id="second", attempts_made=1))
    assert isinstance(retried, Completed)
    assert await bench.world.state(request) == "sent"
