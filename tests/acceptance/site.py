"""A place where campaigns run: real servers, worker processes, jobs as a Node app adds them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio
import redis.exceptions

from campaign_worker.embedded.smtp_server import ReceivedMail, SmtpSink
from campaign_worker.queue.keys import QueueKeys
from campaign_worker.queue.producer import JobSpec, Producer
from campaign_worker.sequence.jobs import mail_job
from tests.acceptance.evidence import Reading, Verdict, judge, read
from tests.acceptance.process import WorkerProcess
from tests.support import CliResult, eventually, run_cli

QUEUE = "campaign"
SUBJECT = "Quiet-subject-marker"
PEOPLE = "people.example"
SENDER = "sender.example"
NODE_OPTIONS: Mapping[str, Any] = {
    "attempts": 3,
    "backoff": {"type": "exponential", "delay": 100},
    "removeOnFail": False,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign in Postgres; `addresses` by recipient id."""

    id: int
    addresses: Mapping[int, str]
    steps: int

    @property
    def recipients(self) -> list[int]:
        """Ids of the recipients, in the order in which their jobs are added."""
        return sorted(self.addresses)


class Site:
    """Servers and settings of some worker processes, and all that they ever wrote."""

    def __init__(
        self,
        *,
        redis_url: str,
        database_url: str,
        sink: SmtpSink,
        prefix: str,
        folder: Path,
        secrets: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.redis_url = redis_url
        self.database_url = database_url
        self.sink = sink
        self.prefix = prefix
        self.secrets = list(secrets)
        self.workers: list[WorkerProcess] = []
        self.outputs: list[str] = []
        self._folder = folder
        self._numbers = itertools.count(1)
        self._keys = QueueKeys(QUEUE, prefix)
        self.env = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "SMTP_URL": sink.url,
            "MAIL_FROM": f"News <news@{SENDER}>",
            "EHLO_NAME": "worker.example.org",
            "BULLMQ_PREFIX": prefix,
            "CONCURRENCY": "10",
            "DRAIN_SECONDS": "20",
            "RETRY_4XX_FLOOR_SECONDS": "0",
            "TRANSPORT_PROBE_SECONDS": "0.2",
            "RECONCILE_OVERDUE_SECONDS": "5",
            "LOG_FORMAT": "json",
            **(env or {}),
        }

    def start(
        self, name: str, *, before: str = "", command: str = "run", **env: str
    ) -> WorkerProcess:
        """Start a worker; it is not ready yet. `before`: Python that its process runs first."""
        folder = self._folder / f"{name}-{next(self._numbers)}"
        settings = {**self.env, **env}
        worker = WorkerProcess(name, settings, folder, before=before, command=command)
        self.workers.append(worker)
        worker.start()
        return worker

    async def ready(
        self, name: str, *, before: str = "", command: str = "run", **env: str
    ) -> WorkerProcess:
        """Start a worker and wait until it is ready."""
        worker = self.start(name, before=before, command=command, **env)
        await worker.ready()
        return worker

    async def cli(self, *arguments: str, **env: str) -> CliResult:
        """Run a command of the same settings to its end."""
        result = await run_cli(*arguments, env={**self.env, **env})
        self.outputs.append(result.stdout + result.stderr)
        return result

    async def campaign(self, recipients: int, *, follow_up_seconds: int | None = None) -> Campaign:
        """Write a running campaign to Postgres; its jobs are not added."""
        number = next(self._numbers)
        tag = f"{self.prefix.replace(':', '.')}.{number}"
        emails = [f"{tag}.{index}@{PEOPLE}" for index in range(recipients)]
        async with self.postgres() as connection, connection.transaction():
            template = await connection.fetchval(
                "INSERT INTO campaign_worker.templates (subject, html)"
                " VALUES ($1, '<p>Dear {{ recipient.email }}</p>') RETURNING id",
                f"{SUBJECT} {number}",
            )
            campaign = await connection.fetchval(
                "INSERT INTO campaign_worker.campaigns (name, status, template_id)"
                " VALUES ('acceptance', 'running', $1) RETURNING id",
                template,
            )
            if follow_up_seconds is not None:
                await connection.execute(
                    "INSERT INTO campaign_worker.follow_ups VALUES ($1, 1, $2, $3)",
                    *(campaign, template, follow_up_seconds),
                )
            rows = await connection.fetch(
                "INSERT INTO campaign_worker.recipients (campaign_id, email)"
                " SELECT $1, unnest($2::text[]) RETURNING id, email",
                *(campaign, emails),
            )
        steps = 1 if follow_up_seconds is None else 2
        return Campaign(campaign, {row["id"]: row["email"] for row in rows}, steps)

    async def give_text(self, campaign: Campaign, html: str) -> None:
        """Let a campaign's first mail have this text; its subject stays."""
        async with self.postgres() as connection:
            await connection.execute(
                "WITH made AS (INSERT INTO campaign_worker.templates (subject, html)"
                " SELECT subject, $2 FROM campaign_worker.templates t"
                " JOIN campaign_worker.campaigns c ON c.template_id = t.id WHERE c.id = $1"
                " RETURNING id) UPDATE campaign_worker.campaigns SET template_id = made.id"
                " FROM made WHERE campaigns.id = $1",
                *(campaign.id, html),
            )

    async def add(
        self, campaign: Campaign, recipients: Sequence[int] | None = None, **options: Any
    ) -> None:
        """Add the jobs of first mails, as a Node app does: only jobs, no rows."""
        chosen = campaign.recipients if recipients is None else recipients
        async with self.redis() as client:
            specs = [mail_job(campaign.id, recipient, 0) for recipient in chosen]
            await Producer(client, QUEUE, self.prefix).add_many(
                [JobSpec(one.name, one.data, one.id, {**NODE_OPTIONS, **options}) for one in specs]
            )

    async def reading(self, campaign: Campaign) -> Reading:
        """Ask everybody once."""
        async with self.redis() as client, self.postgres() as connection:
            return await read(
                connection=connection,
                client=client,
                keys=self._keys,
                counts=await Producer(client, QUEUE, self.prefix).counts(),
                campaign=campaign.id,
                steps=campaign.steps,
                mails=self.sink.mails,
            )

    async def verdict(self, campaign: Campaign) -> Verdict:
        """Judge how things stand now."""
        return judge(await self.reading(campaign))

    async def finished(self, campaign: Campaign, timeout_seconds: float = 15.0) -> Verdict:
        """Wait until every row is final and no job is left; then judge."""

        async def over() -> Verdict | None:
            try:
                reading = await self.reading(campaign)
            except (OSError, asyncpg.PostgresError, redis.exceptions.RedisError):
                return None
            assert reading.finished, f"still open: {judge(reading)}"
            return judge(reading)

        verdict = await eventually(over, timeout_seconds, says="the campaign is finished")
        assert verdict is not None
        return verdict

    async def job_counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        async with self.redis() as client:
            return await Producer(client, QUEUE, self.prefix).counts()

    async def job(self, campaign: Campaign, recipient: int) -> dict[str, str]:
        """Return the hash of a first mail's job."""
        async with self.redis() as client:
            key = self._keys.job(mail_job(campaign.id, recipient, 0).id)
            return {str(name): str(value) for name, value in (await client.hgetall(key)).items()}

    def mails_to(self, campaign: Campaign) -> list[ReceivedMail]:
        """Return what the SMTP server accepted for this campaign."""
        addresses = set(campaign.addresses.values())
        return [mail for mail in self.sink.mails if addresses & set(mail.recipients)]

    async def accepted(self, count: int, timeout_seconds: float = 15.0) -> None:
        """Wait until the SMTP server has accepted so many mails."""
        await self.sink.wait_mails(count, timeout_seconds=timeout_seconds)

    @contextlib.asynccontextmanager
    async def postgres(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect to the database of this site."""
        connection = await asyncpg.connect(self.database_url, timeout=2)
        try:
            yield connection
        finally:
            await connection.close(timeout=2)

    @contextlib.asynccontextmanager
    async def redis(self) -> AsyncIterator[redis.asyncio.Redis]:
        """Connect to the Redis of this site."""
        client = redis.asyncio.Redis.from_url(
            self.redis_url, decode_responses=True, socket_timeout=2
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def close(self) -> None:
        """Leave no worker, and look at every line that was written for what must not be there."""
        for worker in self.workers:
            await worker.kill()
        self.outputs += [worker.output for worker in self.workers]
        for forbidden in (SUBJECT, f"@{PEOPLE}", f"@{SENDER}", *self.secrets):
            told = [
                line for output in self.outputs for line in output.splitlines() if forbidden in line
            ]
            assert not told, f"{forbidden} was written: {told[:3]}"


SiteMaker = Callable[..., Site]
