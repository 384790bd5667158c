"""/metrics of a real worker says what it did, and what waits for it."""

from __future__ import annotations

from campaign_worker.embedded.smtp_script import Moment, by_recipient
from campaign_worker.queue.producer import JobSpec, Producer
from tests.acceptance.process import WorkerProcess
from tests.acceptance.site import QUEUE, Site
from tests.support import eventually

MAILS = 6
IN_FLIGHT = 'jobs_in_flight{queue="campaign"}'
SEND_EMAIL = 'name="send-email"'
FOREIGN = 'name="build-report"'


async def test_metrics_count_jobs_mails_and_what_waits(site: Site) -> None:
    campaign = await site.campaign(MAILS)
    nobody = campaign.addresses[campaign.recipients[0]]
    site.sink.script = by_recipient(Moment.RCPT, {nobody: "550 5.1.1 unknown"})
    site.sink.hold()
    later = {"delay": 600_000}
    await add(site, JobSpec("send-email", {}, "a", later), JobSpec("send-email", {}, "b", later))
    worker = await site.ready("worker")
    await shows(worker, 'queue_jobs{queue="campaign",state="delayed"}', 2)
    await site.add(campaign)
    await add(site, JobSpec("build-report", {}, "c", {}))
    await shows(worker, IN_FLIGHT, MAILS - 1)
    site.sink.release()
    await shows(worker, f'jobs_total{{{SEND_EMAIL},outcome="completed",queue="campaign"}}', 5)
    await shows(worker, f'jobs_total{{{SEND_EMAIL},outcome="failed",queue="campaign"}}', 1)
    await shows(worker, f'jobs_total{{{FOREIGN},outcome="deferred",queue="campaign"}}', 1)
    await shows(worker, f'unknown_jobs_total{{{FOREIGN},queue="campaign"}}', 1)
    await shows(worker, f'job_duration_seconds_count{{{SEND_EMAIL},queue="campaign"}}', MAILS)
    await shows(worker, 'sends_total{result="accepted",transport="default"}', 5)
    await shows(worker, 'sends_total{result="refused",transport="default"}', 1)
    await shows(worker, 'smtp_seconds_count{transport="default"}', MAILS)
    await shows(worker, 'state{state="ready"}', 1)
    await shows(worker, IN_FLIGHT, 0)


async def add(site: Site, *jobs: JobSpec) -> None:
    async with site.redis() as client:
        await Producer(client, QUEUE, site.prefix).add_many(jobs)


async def shows(worker: WorkerProcess, sample: str, value: float) -> None:
    async def is_so() -> bool:
        found = await worker.metric(f"campaign_worker_{sample}")
        assert found == value, f"{sample} is {found:g}"
        return True

    await eventually(is_so, says=f"{sample} is {value:g}")
