"""A server that calls everybody dead is not believed: it rests, and nobody stays suppressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign_worker.delivery.model import Accepted, Refusal
from campaign_worker.errors import SmtpPhase, SmtpRefused
from campaign_worker.queue.endings import Completed, Failed, HandedBack

if TYPE_CHECKING:
    from tests.integration.delivery.kit import Bench

UNKNOWN = SmtpRefused(SmtpPhase.RCPT, 550, "5.1.1", "no such user")


async def suppressed(bench: Bench) -> int:
    return int(await bench.world.value("SELECT count(*) FROM $suppressions"))


async def test_the_eleventh_hard_bounce_rests_the_transport_and_takes_suppressions_back(
    bench: Bench,
) -> None:
    await bench.world.execute(
        "INSERT INTO $suppressions (address, reason) VALUES ('m@example.com', 'hard_bounce')"
    )
    campaign = await bench.world.campaign(13)
    bench.smtp.answers = [UNKNOWN] * 11
    for index in range(10):
        # What is suppressed is the recipient of the envelope, who must be another each time.
        bench.composer.recipients = (f"dead{index}@example.com",)
        assert isinstance(await bench.run(campaign.request(index)), Failed)
    assert await suppressed(bench) == 11
    assert bench.notes.held == []
    bench.composer.recipients = ("dead10@example.com",)
    assert isinstance(await bench.run(campaign.request(10)), Failed)
    assert await suppressed(bench) == 1, "only what was not of this flood"
    assert "hold transport default" in bench.notes.held
    row = await bench.world.row(campaign.request(10))
    assert (row["state"], row["reason"]) == ("failed", "hard_bounce")
    assert row["detail"].startswith("suppression withheld: rcpt: 550")
    assert await bench.run(campaign.request(11)) == HandedBack("transport_down")
    bench.now = 601.0
    assert isinstance(await bench.run(campaign.request(11)), Completed)


async def test_a_bounce_after_the_rest_is_withheld_until_a_window_was_healthy(bench: Bench) -> None:
    bench.breakers.note("default", 1, hard=11, other=0)
    bench.now = 601.0
    campaign = await bench.world.campaign(3)
    bench.smtp.answers = [UNKNOWN]
    await bench.run(campaign.request(0))
    assert await suppressed(bench) == 0
    bench.breakers.note("default", 1, hard=0, other=100)
    bench.smtp.answers = [UNKNOWN]
    await bench.run(campaign.request(1))
    assert await suppressed(bench) == 1


async def test_a_refused_recipient_of_an_accepted_mail_counts_as_well(bench: Bench) -> None:
    campaign = await bench.world.campaign(11)
    bench.composer.recipients = ("good@example.com", "dead@example.com")
    refused = Refusal("dead@example.com", 550, "5.1.1", "no such user")
    bench.smtp.answers = [Accepted("250 kept", (refused,))] * 11
    for index in range(10):
        assert isinstance(await bench.run(campaign.request(index)), Completed)
    assert await suppressed(bench) == 1
    assert isinstance(await bench.run(campaign.request(10)), Completed)
    assert await suppressed(bench) == 0
    assert bench.breakers.reasons == ["hard bounces of default"]


async def test_other_refusals_are_no_bounces(bench: Bench) -> None:
    campaign = await bench.world.campaign(15)
    bench.smtp.answers = [SmtpRefused(SmtpPhase.RCPT, 450, "4.2.0", "later")] * 15
    for index in range(15):
        assert isinstance(await bench.run(campaign.request(index)), Failed)
    assert bench.breakers.reasons == []
