"""A stop with mails in flight: what is sent stays sent once, what is not goes to the rival."""

from __future__ import annotations

import itertools
import signal
import time

import pytest

from campaign_worker.embedded.smtp_script import Moment, Question, Silence
from campaign_worker.embedded.smtp_server import SmtpSink
from tests.acceptance.evidence import Verdict, flawless
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site, SiteMaker
from tests.support import eventually

# Shorter than a mail takes: who does not renew through the drain loses its jobs to the rival.
SHORT_LOCKS = {
    "LOCK_DURATION_MS": "1000",
    "STALLED_INTERVAL_MS": "500",
    "RECONCILE_INTERVAL_SECONDS": "0.5",
}


# Half a second is what make bench-stop asks for.
IDLE_SECONDS = 10 * 0.5


async def test_an_idle_worker_is_gone_at_once_and_leaves_nothing_open(site: Site) -> None:
    worker = await site.ready("worker")
    signalled = time.monotonic()
    worker.send(signal.SIGTERM)
    assert await worker.ended(IDLE_SECONDS) == 0
    assert time.monotonic() - signalled < IDLE_SECONDS
    words = worker.last_words
    fates = ("in_flight_at_signal", "finished", "handed_back", "in_doubt", "abandoned")
    assert [words[fate] for fate in fates] == [0] * 5
    phases = ["quiet", "background", "drain", "abort", "flush", "smtp", "postgres", "redis"]
    assert list(words["phases"]) == phases


class UnevenSink(SmtpSink):
    """Takes from a fifth of a second to three lock durations for a mail, each length in turn."""

    _lengths_ms = itertools.cycle((200, 3000, 500, 2600, 900, 2200, 1300, 1800))

    @property
    def latency_ms(self) -> float:
        return next(self._lengths_ms)

    @latency_ms.setter
    def latency_ms(self, value: float) -> None:
        """Ignore what the base class sets."""


async def test_mails_of_mixed_length_up_to_three_lock_durations_all_finish_beside_a_rival(
    make_site: SiteMaker,
) -> None:
    async with UnevenSink() as sink:
        site = make_site(sink=sink)
        old = await site.ready("old", CONCURRENCY="8", **SHORT_LOCKS)
        sink.hold()
        campaign = await site.campaign(8)
        await site.add(campaign)
        await sink.wait_at_dot(8)
        # It would take whatever stalls.
        await site.ready("rival", CONCURRENCY="8", **SHORT_LOCKS)
        sink.release()
        old.send(signal.SIGTERM)
        assert await old.ended() == 0
        verdict = await site.verdict(campaign)
    assert verdict == flawless(8)
    assert verdict.started_twice == 0
    assert (old.last_words["handed_back"], old.last_words["abandoned"]) == (0, 0)


async def test_what_became_of_jobs_can_be_fetched_while_the_drain_goes_on(site: Site) -> None:
    old, _ = await stuck_in_the_middle(site, "old", DRAIN_SECONDS="30")
    old.send(signal.SIGTERM)
    await old.says("shutdown phase ended", phase="background")
    assert await old.metric('campaign_worker_shutdown_jobs{fate="abandoned"}') == 12
    phase = 'campaign_worker_shutdown_phase_seconds{phase="quiet",result="done"}'
    assert await old.metric(phase) > 0
    old.send(signal.SIGTERM)
    assert await old.ended(timeout_seconds=10) == 0
    site.sink.release()


async def test_sigterm_lets_20_mails_in_flight_finish_while_an_idle_rival_gets_none(
    site: Site,
) -> None:
    site.sink.latency_ms = 2000
    site.sink.hold()
    old = await site.ready("old", CONCURRENCY="20", **SHORT_LOCKS)
    campaign = await site.campaign(20)
    await site.add(campaign)
    await site.sink.wait_at_dot(20)
    rival = await site.ready("rival", CONCURRENCY="20", **SHORT_LOCKS)
    old.send(signal.SIGTERM)
    await old.says("stopping", in_flight=20)
    assert (await old.status("/health"), await old.status("/ready")) == (200, 503)
    site.sink.release()
    assert await old.ended() == 0
    verdict = await site.verdict(campaign)
    assert verdict == flawless(20)
    assert verdict.started_twice == 0
    words = old.last_words
    assert (words["in_flight_at_signal"], words["finished"]) == (20, 20)
    assert (words["handed_back"], words["abandoned"]) == (0, 0)
    assert (await rival.health())["in_flight"] == 0


async def test_a_window_shorter_than_the_mails_hands_back_what_has_not_begun(site: Site) -> None:
    """Budget 2.4 s: eight mails wait for an answer to RCPT, four for the one to their dot."""
    old, campaign = await stuck_in_the_middle(site, "old", DRAIN_SECONDS="3")
    rival = await site.ready("rival")
    signalled = time.monotonic()
    old.send(signal.SIGTERM)
    assert await old.ended(timeout_seconds=3) == 0
    assert time.monotonic() - signalled < 2.9
    words = old.last_words
    assert (words["in_flight_at_signal"], words["handed_back"], words["abandoned"]) == (12, 12, 0)
    assert words["in_doubt"] == 4
    left = time.monotonic()
    site.sink.release()
    verdict = await site.finished(campaign, 5)
    assert time.monotonic() - left < 2.0, "the rival did not start at once"
    assert verdict == two_thirds_sent_the_rest_in_doubt()
    told = rival.records("mail not sent")
    assert [one["outcome"] for one in told] == ["in_doubt"] * 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
async def test_a_second_signal_ends_the_drain_at_once(
    site: Site, first: signal.Signals, second: signal.Signals
) -> None:
    old, campaign = await stuck_in_the_middle(site, "old", DRAIN_SECONDS="30")
    old.send(first)
    await old.says("stopping", in_flight=12)
    signalled = time.monotonic()
    old.send(second)
    assert await old.ended(timeout_seconds=10) == 0
    assert time.monotonic() - signalled < 6.0
    assert old.last_words["handed_back"] == 12
    site.sink.release()
    await site.ready("rival")
    assert await site.finished(campaign, 5) == two_thirds_sent_the_rest_in_doubt()


async def test_a_third_signal_ends_the_process_with_1_at_once(site: Site) -> None:
    old, _ = await stuck_in_the_middle(site, "old", DRAIN_SECONDS="30")
    signalled = time.monotonic()
    old.send(signal.SIGTERM)
    await old.says("stopping")
    # The abort of the second waits for no answer, so the third comes in the middle of it.
    old.send(signal.SIGTERM)
    old.send(signal.SIGINT)
    assert await old.ended(timeout_seconds=2) == 1
    assert time.monotonic() - signalled < 1.0
    assert "12 jobs were still active" in old.plain_lines()[-1]


async def test_sigtstp_only_ends_the_intake(site: Site) -> None:
    worker = await site.ready("worker")
    worker.send(signal.SIGTSTP)
    await eventually(lambda: draining(worker))
    campaign = await site.campaign(3)
    await site.add(campaign)
    assert worker.running
    assert await worker.status("/health") == 200
    worker.send(signal.SIGTERM)
    assert await worker.ended(5) == 0
    assert (await site.job_counts())["waiting"] == 3
    await site.ready("next")
    assert await site.finished(campaign) == flawless(3)


class SilentAtFirstRcpt:
    """Never answers the first RCPT of these addresses; `asked` are those that came."""

    def __init__(self, addresses: set[str]) -> None:
        self._addresses = addresses
        self.asked: set[str] = set()

    def __call__(self, question: Question) -> Silence | None:
        slow = question.moment is Moment.RCPT and question.recipient in self._addresses
        if not slow or question.attempt > 1:
            return None
        self.asked.add(question.recipient)
        return Silence()


async def stuck_in_the_middle(site: Site, name: str, **env: str) -> tuple[WorkerProcess, Campaign]:
    """Start a worker that has eight mails before their mark and four in their DATA phase."""
    campaign = await site.campaign(12)
    script = SilentAtFirstRcpt({campaign.addresses[one] for one in campaign.recipients[4:]})
    site.sink.script = script
    site.sink.hold()
    worker = await site.ready(name, CONCURRENCY="12", **env)
    await site.add(campaign)
    await site.sink.wait_at_dot(4)
    await eventually(lambda: len(script.asked) == 8)
    return worker, campaign


async def draining(worker: WorkerProcess) -> bool:
    return bool((await worker.health())["state"] == "draining")


def two_thirds_sent_the_rest_in_doubt() -> Verdict:
    # The sink kept the four, as a real server may: nobody can know, nobody sends them again.
    return Verdict(accepted=12, states={"sent": 8, "in_doubt": 4}, jobs_failed=4)
