"""One job through the pipeline with a real ledger: the order of its steps, and where it stops."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import pytest

from campaign_worker.errors import (
    MailNotSent,
    PayloadError,
    RedisAway,
    RenderError,
    SmtpPhase,
    SmtpRefused,
    TransportDown,
)
from campaign_worker.queue.abort import AbortReason
from campaign_worker.queue.endings import Completed, Deferred, Failed, HandedBack
from metrics import MailSent, UnknownJob
from tests.integration.delivery.kit import NOW_MS, Bench, Job, Smtp, bench_of, job_of
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from campaign_worker.delivery.requests import CampaignRequest
    from campaign_worker.queue.endings import Ending


def until(seconds: float) -> Deferred:
    return Deferred(NOW_MS + round(seconds * 1000))


def failure(ending: Any) -> str:
    assert isinstance(ending, Failed), ending
    return str(ending.error)


async def test_slot_then_claim_then_mark_then_body(bench: Bench) -> None:
    campaign = await bench.world.campaign()
    request = campaign.request()

    async def claimed_but_not_marked() -> None:
        row = await bench.world.row(request)
        assert (row["state"], row["marked_at"]) == ("sending", None)

    async def marked() -> None:
        assert (await bench.world.row(request))["marked_at"] is not None

    bench.smtp.before_mark, bench.smtp.after_mark = claimed_but_not_marked, marked
    ending = await bench.run(request)
    key = f"{request.campaign_id}.{request.recipient_id}.0"
    assert ending == Completed({"outcome": "sent", "messageId": f"<{key}@x>"})
    assert bench.smtp.log == ["slot", "mail", "body", "slot free"]
    row = await bench.world.row(request)
    assert (row["state"], row["detail"]) == ("sent", "250 2.0.0 queued")
    assert [event.result for event in bench.notes.events if isinstance(event, MailSent)] == [
        "accepted"
    ]


async def test_nothing_is_claimed_while_a_transport_is_waited_for(bench: Bench) -> None:
    bench.smtp.down = TransportDown("default", SmtpPhase.CONNECT, "refused")
    request = (await bench.world.campaign()).request()
    assert await bench.run(request) == HandedBack("transport_down")
    assert await bench.world.value("SELECT count(*) FROM $messages") == 0
    assert bench.notes.held == ["hold transport default"]
    bench.smtp.down = None
    await eventually(lambda: bench.notes.held[-1] == "release transport default")


async def test_with_several_transports_the_jobs_of_one_that_is_down_are_deferred(
    database_url: str,
) -> None:
    async with bench_of(database_url, others=[Smtp("second")]) as bench:
        first, second = await bench.world.campaign(), await bench.world.campaign()
        await bench.world.execute(
            "UPDATE $campaigns SET transport = 'second' WHERE id = $1", second.id
        )
        bench.smtp.down = TransportDown("default", SmtpPhase.CONNECT, "refused")
        assert await bench.run(first.request()) == until(0.01)
        assert isinstance(await bench.run(second.request()), Completed)
        assert bench.notes.held == []


async def test_a_job_that_was_sent_ends_as_sent_and_sends_nothing(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    first = await bench.run(request)
    assert await bench.run(job_of(request, id="another")) == first
    assert bench.smtp.log.count("body") == 1
    assert await bench.world.value("SELECT count(*) FROM $usage_events") == 1


async def test_a_skipped_row_completes_its_job_with_the_reason(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    await bench.world.execute("UPDATE $recipients SET unsubscribed_at = now()")
    assert await bench.run(request) == Completed({"outcome": "skipped", "reason": "unsubscribed"})
    assert "body" not in bench.smtp.log


async def test_the_next_steps_job_is_added_after_the_settle(bench: Bench) -> None:
    campaign = await bench.world.campaign()
    await bench.world.follow_up(campaign, delay_seconds=60)
    await bench.run(campaign.request())
    (step,) = bench.notes.steps
    assert (step.campaign_id, step.recipient_id, step.step) == (
        campaign.id, campaign.recipients[0], 1,
    )  # fmt: skip


async def test_a_stop_before_the_claim_claims_nothing(bench: Bench) -> None:
    bench.signal.abort(AbortReason.SHUTDOWN)
    request = (await bench.world.campaign()).request()
    assert await bench.run(request) == HandedBack("stopping")
    assert await bench.world.value("SELECT count(*) FROM $messages") == 0


async def test_a_stop_before_the_mark_releases_the_row_untouched(bench: Bench) -> None:
    async def stop() -> None:
        bench.signal.abort(AbortReason.SHUTDOWN)

    bench.smtp.before_mark = stop
    request = (await bench.world.campaign()).request()
    assert await bench.run(request) == HandedBack("interrupted")
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], row["marked_at"]) == ("scheduled", 0, None)
    assert "body" not in bench.smtp.log


async def test_a_stop_that_comes_with_the_claim_says_no_word_to_the_server(bench: Bench) -> None:
    world, request = bench.world, (await bench.world.campaign()).request()
    async with world.raw.transaction():
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2)",
            request.campaign_id,
            request.recipient_id,
        )
        running = await bench.running(request)
        await eventually(world.somebody_waits_for_a_lock)
        bench.signal.abort(AbortReason.SHUTDOWN)
    assert await running == HandedBack("interrupted")
    assert bench.smtp.log == ["slot", "slot free"]
    row = await world.row(request)
    assert (row["state"], row["attempts"]) == ("scheduled", 0)


@contextlib.asynccontextmanager
async def waiting_for_its_mark(
    bench: Bench, request: CampaignRequest
) -> AsyncIterator[asyncio.Task[Ending]]:
    """Run a job whose mark is on its way to Postgres for as long as the body takes."""
    there, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        there.set()
        await go.wait()

    bench.smtp.before_mark = hold
    running = await bench.running(request)
    await there.wait()
    async with bench.world.raw.transaction():
        await bench.world.execute("SELECT 1 FROM $messages FOR UPDATE")
        go.set()
        await eventually(bench.world.somebody_waits_for_a_lock)
        yield running


async def test_a_stop_that_comes_while_the_mark_is_committed_sends_nothing(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    async with waiting_for_its_mark(bench, request) as running:
        bench.signal.abort(AbortReason.SHUTDOWN)
    assert await running == HandedBack("interrupted")
    assert "body" not in bench.smtp.log
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"], row["marked_at"]) == ("scheduled", 0, None)


async def test_a_lease_is_believed_from_before_its_mark_was_asked_for(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    confirmed: list[float] = []

    async def look() -> None:
        confirmed.extend(lease._confirmed_at for lease in bench.leases._held.values())

    bench.smtp.after_mark = look
    async with waiting_for_its_mark(bench, request) as running:
        asked_before = time.monotonic()
    assert isinstance(await running, Completed)
    assert len(confirmed) == 1
    assert confirmed[0] < asked_before


async def test_a_lease_that_ran_out_stops_a_send_before_the_mark(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()

    async def freeze() -> None:
        # As after a long freeze: Postgres' clock is past the lease.
        await bench.world.execute("UPDATE $messages SET lease_until = now() - interval '1 s'")

    bench.smtp.before_mark = freeze
    assert await bench.run(request) == HandedBack("interrupted")
    assert "body" not in bench.smtp.log
    assert (await bench.world.row(request))["state"] == "scheduled"


async def test_a_row_that_was_given_to_somebody_else_is_not_sent(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()

    async def lose() -> None:
        await bench.world.execute("UPDATE $messages SET token = 'other'")

    bench.smtp.before_mark = lose
    assert await bench.run(request) == until(1)
    row = await bench.world.row(request)
    assert (row["state"], row["token"]) == ("sending", "other")
    assert "body" not in bench.smtp.log


async def test_a_cancel_before_the_mark_releases_the_row(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    there = asyncio.Event()

    async def hang() -> None:
        there.set()
        await asyncio.Event().wait()

    bench.smtp.before_mark = hang
    running = await bench.running(request)
    await there.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    row = await bench.world.row(request)
    assert (row["state"], row["attempts"]) == ("scheduled", 0)


async def test_a_cancel_after_the_mark_leaves_the_row_in_doubt(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    there = asyncio.Event()

    async def hang() -> None:
        there.set()
        await asyncio.Event().wait()

    bench.smtp.after_mark = hang
    running = await bench.running(request)
    await there.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert await bench.world.state(request) == "in_doubt"
    # The job that was handed back ends as the row says.
    assert failure(await bench.run(request)).startswith("in_doubt")


@pytest.mark.parametrize("stopped", [False, True], ids=["heard out", "and then stopped"])
async def test_a_mail_whose_job_loses_its_lock_after_the_mark_is_heard_out_until_a_stop(
    bench: Bench, *, stopped: bool
) -> None:
    request = (await bench.world.campaign()).request()
    there, answered = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        there.set()
        await answered.wait()

    bench.smtp.after_mark = wait
    running = await bench.running(request)
    await there.wait()
    bench.signal.abort(AbortReason.LOCK_LOST)
    running.cancel()
    await asyncio.wait([running], timeout=0.05)
    assert not running.done()
    if stopped:
        running.cancel()
    else:
        answered.set()
    await asyncio.wait([running])
    assert running.cancelled() is stopped
    assert stopped or running.cancelling() == 0, "what was used up here is nobody else's"
    assert await bench.world.state(request) == ("in_doubt" if stopped else "sent")


@pytest.mark.parametrize("reason", [AbortReason.LOCK_LOST, AbortReason.SHUTDOWN])
async def test_an_answer_that_comes_in_the_moment_of_a_cancellation_is_believed(
    bench: Bench, reason: AbortReason
) -> None:
    request = (await bench.world.campaign()).request()
    there, answered = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        there.set()
        await answered.wait()
        # The send is over in this turn of the loop, and whoever waits for it is not awake yet.
        bench.signal.abort(reason)
        running.cancel()

    bench.smtp.after_mark = wait
    running = await bench.running(request)
    await there.wait()
    answered.set()
    await asyncio.wait([running])
    assert not running.cancelled()
    assert await bench.world.state(request) == "sent"


async def test_a_mail_whose_job_loses_its_lock_before_the_mark_is_released(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    there = asyncio.Event()

    async def hang() -> None:
        there.set()
        await asyncio.Event().wait()

    bench.smtp.before_mark = hang
    running = await bench.running(request)
    await there.wait()
    bench.signal.abort(AbortReason.LOCK_LOST)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert await bench.world.state(request) == "scheduled"
    assert "body" not in bench.smtp.log


async def test_a_cancel_during_the_settle_does_not_lose_an_accepted_mail(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    world = bench.world
    async with world.raw.transaction():
        # Settles wait here: they update the counts of the campaign.
        await world.execute("SELECT 1 FROM $campaign_counts FOR UPDATE")
        running = await bench.running(request)
        await eventually(world.somebody_waits_for_a_lock)
        running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert await world.state(request) == "sent"


@pytest.mark.parametrize(
    "error", [RenderError("subject", "nickname is missing"), ValueError("a mistake of ours")]
)
async def test_a_mail_that_cannot_be_composed_fails_for_good(
    bench: Bench, error: Exception
) -> None:
    bench.composer.error = error
    request = (await bench.world.campaign()).request()
    ending = await bench.run(request)
    assert isinstance(ending, Failed)
    assert not ending.retry
    row = await bench.world.row(request)
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "render_error", 0)
    assert str(error) in row["detail"]
    assert "mail" not in bench.smtp.log


async def test_a_place_in_the_rate_that_is_far_away_defers_the_job(bench: Bench) -> None:
    bench.pace.seconds = 42.0
    request = (await bench.world.campaign()).request()
    assert await bench.run(request) == until(42)
    assert await bench.world.value("SELECT count(*) FROM $messages") == 0


async def test_without_redis_the_job_goes_back(bench: Bench) -> None:
    bench.pace.error = RedisAway("no answer")
    assert await bench.run((await bench.world.campaign()).request()) == HandedBack("redis_away")


@pytest.mark.parametrize("data", [{}, None, {"campaignId": "x", "recipientId": 1}, {"to": "a@b"}])
async def test_a_payload_that_does_not_fit_fails_at_once(bench: Bench, data: Any) -> None:
    ending = await bench.run(Job(data))
    assert isinstance(ending, Failed)
    assert isinstance(ending.error, PayloadError)
    assert not ending.retry
    assert bench.smtp.log == []


async def test_a_self_contained_mail_that_cannot_be_composed_leaves_no_row(bench: Bench) -> None:
    bench.composer.error = PayloadError("to", "no address")
    ending = await bench.run(Job({"to": "a@b.cc", "subject": "s", "text": "t"}))
    assert failure(ending) == "to: no address"
    assert await bench.world.value("SELECT count(*) FROM $messages") == 0


async def test_a_job_that_names_what_is_not_there_fails_by_field(bench: Bench) -> None:
    ending = await bench.run(Job({"campaignId": 404, "recipientId": 1}))
    assert failure(ending) == "campaignId: there is no campaign 404"


async def test_a_job_id_that_postgres_cannot_hold_fails_alone(bench: Bench) -> None:
    campaign = await bench.world.campaign(2)
    bad, good = await asyncio.gather(
        bench.run(job_of(campaign.request(0), id="a\x00b")), bench.run(campaign.request(1))
    )
    assert "Postgres refuses it" in failure(bad)
    assert isinstance(good, Completed)


async def test_a_transport_that_no_setting_names_defers_the_campaign(bench: Bench) -> None:
    campaign = await bench.world.campaign()
    await bench.world.execute("UPDATE $campaigns SET transport = 'gone'")
    assert await bench.run(campaign.request()) == until(60)
    assert bench.smtp.log == []


async def test_jobs_of_unknown_names_are_parked_or_failed(bench: Bench) -> None:
    job = Job({"anything": 1}, name="resize-image")
    assert await bench.run(job) == until(300)
    bench.processor._options = dataclasses.replace(bench.options, park_unknown=False)
    assert failure(await bench.run(job)).startswith("name: unknown job 'resize-image'")
    unknown = [event for event in bench.notes.events if isinstance(event, UnknownJob)]
    assert [event.name for event in unknown] == ["resize-image"] * 2


async def test_a_busy_row_defers_until_its_lease_ends(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    await bench.world.claimed(request)
    ending = await bench.run(request)
    assert isinstance(ending, Deferred)
    assert ending.until_ms - NOW_MS == pytest.approx(30_000, abs=1000)


async def test_a_failed_row_fails_a_replayed_job_without_retry(bench: Bench) -> None:
    bench.composer.error = RenderError("subject", "x")
    request = (await bench.world.campaign()).request()
    await bench.run(request)
    bench.composer.error = None
    again = await bench.run(request)
    assert isinstance(again, Failed)
    assert isinstance(again.error, MailNotSent)
    assert (again.error.outcome, again.retry) == ("render_error", False)


@pytest.mark.parametrize(
    ("said", "kept"), [(1_700_000_000_000, 1_700_000_000_000), (10**30, None), (-1, None)]
)
async def test_a_row_knows_when_the_job_was_added_that_claimed_it(
    bench: Bench, said: int, kept: int | None
) -> None:
    request = (await bench.world.campaign()).request()
    await bench.run(job_of(request, timestamp=said))
    row = await bench.world.row(request)
    assert (row["state"], row["job_timestamp"]) == ("sent", kept)


async def test_a_job_that_an_old_backup_of_redis_brought_back_retries_nothing(bench: Bench) -> None:
    request = (await bench.world.campaign()).request()
    bench.smtp.answers = [SmtpRefused(SmtpPhase.RCPT, 451, None, "later")] * 3
    for counted in range(3):
        await bench.world.execute("UPDATE $messages SET due_at = now()")
        await bench.run(job_of(request, attempts_made=counted))
    assert (await bench.world.row(request))["reason"] == "exhausted"
    # As it was before its third attempt.
    await bench.run(job_of(request, attempts_made=1))
    assert (await bench.world.row(request))["reason"] == "exhausted"
    # Retried by somebody, it has failed since.
    assert isinstance(await bench.run(job_of(request, attempts_made=3)), Completed)
    assert await bench.world.state(request) == "sent"
