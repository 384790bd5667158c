"""A sender that a server refuses costs no mail, and holds up no other sender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign_worker.errors import SmtpPhase, SmtpRefused
from campaign_worker.queue.endings import Completed, Deferred, Failed
from tests.integration.delivery.kit import NOW_MS, Job

if TYPE_CHECKING:
    from tests.integration.delivery.kit import Bench

UNKNOWN = SmtpRefused(SmtpPhase.MAIL, 550, None, "who is that?")
UNVERIFIED = SmtpRefused(SmtpPhase.BODY, 554, None, "Message rejected: to@example.com")
RESTS = Deferred(NOW_MS + 60_000)


def asked(bench: Bench) -> int:
    """Return how many mails the server was asked to take."""
    return bench.smtp.log.count("mail")


async def due_now(bench: Bench) -> None:
    await bench.world.execute("UPDATE $messages SET due_at = now() WHERE state = 'scheduled'")


async def test_mails_of_a_refused_sender_wait_unasked_and_lose_no_attempt(bench: Bench) -> None:
    campaign = await bench.world.campaign(3)
    bench.smtp.answers = [UNKNOWN]
    for index in range(3):
        assert await bench.run(campaign.request(index)) == RESTS
        row = await bench.world.row(campaign.request(index))
        assert (row["state"], row["attempts"]) == ("scheduled", 0)
        assert row["detail"] == "sender refused: mail: 550 who is that?"
    assert asked(bench) == 1
    assert bench.rested == [("campaign", campaign.id)] * 2, "the head of the queue is cleared"
    assert bench.notes.held == [], "intake goes on"
    assert bench.senders.reasons == [
        f"refused senders of default: example.com in campaign {campaign.id}"
    ]
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == 0
    bench.now = 60.0
    await due_now(bench)
    for index in range(3):
        assert isinstance(await bench.run(campaign.request(index)), Completed)
    assert await bench.world.counts(campaign) == {"sent": 3}
    assert bench.senders.reasons == []


async def test_other_campaigns_and_a_mended_from_go_on_meanwhile(bench: Bench) -> None:
    campaign, other = await bench.world.campaign(2), await bench.world.campaign()
    bench.smtp.answers = [UNKNOWN]
    assert await bench.run(campaign.request(0)) == RESTS
    assert isinstance(await bench.run(other.request()), Completed)
    bench.composer.sender = "mended@example.com"
    assert isinstance(await bench.run(campaign.request(1)), Completed)


async def test_a_whole_mail_that_waits_for_its_sender_puts_off_no_other_of_its_campaign(
    bench: Bench,
) -> None:
    campaign = await bench.world.campaign(0)
    data = {"campaignId": campaign.id, "to": "a@example.com", "subject": "s", "text": "t"}
    bench.smtp.answers = [UNKNOWN]
    for number in range(2):
        assert await bench.run(Job(data, id=f"job-{number}")) == RESTS
    assert asked(bench) == 1
    assert bench.rested == []


async def test_a_rejection_of_every_mail_costs_eleven_and_then_one_a_rest(bench: Bench) -> None:
    campaign, other = await bench.world.campaign(15), await bench.world.campaign()
    bench.smtp.answers = [UNVERIFIED] * 12
    for index in range(11):
        assert isinstance(await bench.run(campaign.request(index)), Failed)
    assert await bench.run(campaign.request(11)) == RESTS
    row = await bench.world.row(campaign.request(11))
    assert (row["state"], row["attempts"]) == ("scheduled", 0)
    last = await bench.world.row(campaign.request(10))
    # Nobody's address comes into the row of another.
    assert row["detail"] == f"11 mails in a row were rejected, the last is row {last['id']}"
    bench.now = 60.0
    await due_now(bench)
    assert isinstance(await bench.run(campaign.request(11)), Failed)
    assert await bench.run(campaign.request(12)) == RESTS
    assert isinstance(await bench.run(other.request()), Completed)
    bench.now = 120.0
    await due_now(bench)
    for index in range(12, 15):
        assert isinstance(await bench.run(campaign.request(index)), Completed)
    assert await bench.world.counts(campaign) == {"sent": 3, "failed": 12}
    assert await bench.world.value("SELECT count(*) FROM $suppressions") == 0


async def test_rejections_of_single_mails_rest_nobody(bench: Bench) -> None:
    campaign = await bench.world.campaign(24)
    for index in range(24):
        bench.smtp.answers = [] if index % 8 == 7 else [UNVERIFIED]
        ending = await bench.run(campaign.request(index))
        assert isinstance(ending, Completed if index % 8 == 7 else Failed)
    assert bench.senders.reasons == []
