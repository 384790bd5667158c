"""A mail that kills whichever process has it in hand: it is found and set apart, others go out."""

from __future__ import annotations

import asyncio
import json
import signal

from campaign_worker.embedded.smtp_script import Answer, Moment, Question, Silence
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import Campaign, Site
from tests.support import eventually

IN_FLIGHT = 50
DEATHS = 4
IMPATIENT = {
    "CONCURRENCY": str(IN_FLIGHT),
    "LOCK_DURATION_MS": "1000",
    "STALLED_INTERVAL_MS": "500",
    "LEASE_SECONDS": "1",
    "RECONCILE_INTERVAL_SECONDS": "0.2",
    "QUARANTINE_DEATHS": str(DEATHS),
}


class Poison:
    """Kills the worker whose mail to `victim` comes to the server.

    While it is beside others it waits until all of them are there, so that nobody can tell which
    mail it was; those get no answer, so that none of them is in doubt.
    """

    def __init__(self, victim: str) -> None:
        self.victim = victim
        self.kills = 0
        self.killed = asyncio.Event()
        self.worker: WorkerProcess | None = None
        self._there = 0

    def __call__(self, question: Question) -> Answer | None:
        if question.moment is not Moment.RCPT:
            return None
        beside = self.kills < 2
        self._there += beside
        if self._there == IN_FLIGHT if beside else question.recipient == self.victim:
            self._kill()
        return Silence() if beside or question.recipient == self.victim else None

    def _kill(self) -> None:
        assert self.worker is not None
        self.worker.send(signal.SIGKILL)
        self._there = 0
        self.kills += 1
        self.killed.set()


async def test_of_50_in_flight_the_one_that_kills_is_quarantined_and_49_are_sent(
    site: Site,
) -> None:
    campaign = await site.campaign(IN_FLIGHT)
    victim = campaign.recipients[IN_FLIGHT // 2]
    poison = Poison(campaign.addresses[victim])
    site.sink.script = poison
    await site.add(campaign)
    for number in range(DEATHS):
        poison.killed.clear()
        poison.worker = site.start(f"worker-{number}", **IMPATIENT)
        async with asyncio.timeout(20):
            await poison.killed.wait()
        await poison.worker.kill()
    await site.ready("last", **IMPATIENT)
    verdict = await site.finished(campaign, 20)
    assert (verdict.states, verdict.accepted) == ({"sent": IN_FLIGHT - 1, "failed": 1}, 49)
    assert (verdict.lost, verdict.duplicated, verdict.miscounted) == (0, 0, 0)
    assert (await outcome(site, campaign, victim)) == ("failed", "quarantined", DEATHS)
    job = await eventually(lambda: failed_job(site, campaign, victim), says="its job has failed")
    assert job["failedReason"].startswith("quarantined")
    report = json.loads((await site.cli("status", "--json")).stdout)
    (shown,) = [one for one in report["campaigns"] if one["id"] == campaign.id]
    assert (shown["quarantined"], shown["in_doubt_count"], shown["failed_count"]) == (1, 0, 1)


async def outcome(site: Site, campaign: Campaign, recipient: int) -> tuple[str, str, int]:
    async with site.postgres() as connection:
        row = await connection.fetchrow(
            "SELECT state, reason, deaths FROM campaign_worker.messages"
            " WHERE campaign_id = $1 AND recipient_id = $2",
            *(campaign.id, recipient),
        )
    assert row is not None
    return row["state"], row["reason"], row["deaths"]


async def failed_job(site: Site, campaign: Campaign, recipient: int) -> dict[str, str] | None:
    job = await site.job(campaign, recipient)
    return job if "failedReason" in job else None
