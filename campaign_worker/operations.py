"""What operators ask for beside running: enqueue a campaign, see how things stand, end doubts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from campaign_worker.contract.forms import AppForms
from campaign_worker.contract.reading import Source
from campaign_worker.contract.serving import served
from campaign_worker.errors import CampaignWorkerError, ContractBroken, PayloadError
from campaign_worker.jobs import MailQueue, QueueEpochs
from campaign_worker.mail.compose import normalize
from campaign_worker.queue import ConnectionSpec
from campaign_worker.queue.standing import Standing
from campaign_worker.sequence.jobs import mail_job
from campaign_worker.sequence.scheduler import Scheduler
from campaign_worker.settings import AmbiguousSend, DatabaseSettings, Pooler, Settings
from campaign_worker.startup import ping_redis
from campaign_worker.storage.campaigns import Campaigns
from campaign_worker.storage.contract_tables import AppTables
from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.storage.doubts import Doubts, Selection, Verdict
from campaign_worker.storage.failures import Failures
from campaign_worker.storage.recovery import RecoveryOptions, whole_rows
from metrics import Fanout
from shutdown import Deadline

_CLOSE_SECONDS = 2.0
_CAMPAIGNS_SHOWN = 20
_ID_MAX = 2**63 - 1
_SHOWN_MAX = 40

_ON_THEIR_WAY = (Standing.DELAYED, Standing.UNDERWAY)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Status:
    """Job counts by queue and state; the newest campaigns; counts that rows contradict."""

    queues: dict[str, dict[str, int]]
    campaigns: list[dict[str, Any]]
    untrue_counts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Connected:
    """Everything that a command works with, open while the command runs."""

    database: Database
    queues: dict[str, MailQueue]
    campaigns: Campaigns
    doubts: Doubts
    failures: Failures
    scheduler: Scheduler


class NoSuchCampaign(CampaignWorkerError):
    """There is no campaign of this id, or it cannot do what was asked."""


def database_options(settings: DatabaseSettings) -> DatabaseOptions:
    """Describe Postgres as the settings say."""
    return DatabaseOptions(
        dsn=settings.database_url.get_secret_value(),
        schema=settings.database_schema,
        transaction_pooler=settings.database_pooler is Pooler.TRANSACTION,
        pool_size=settings.database_pool_size,
    )


def recovery_options(settings: Settings) -> RecoveryOptions:
    """Describe the reconciler as the settings say; its lease outlives a missed tick."""
    return RecoveryOptions(
        lease_seconds=settings.lease_seconds,
        overdue_seconds=settings.reconcile_overdue_seconds,
        resend_ambiguous=settings.ambiguous_send is AmbiguousSend.RESEND,
        quarantine_deaths=settings.quarantine_deaths,
        hold_seconds=2 * settings.reconcile_interval_seconds + 1,
    )


async def enqueue(settings: Settings, campaign_id: str, progress: Progress) -> int:
    """Make the missing rows of a campaign and a job for each pending one; how many are pending.

    Idempotent: rows first, jobs second, both under fixed ids. `progress(done, total)` is called
    after each page. Raises NoSuchCampaign, PayloadError, Away and CredentialsRefused.
    """
    refuse_an_app_s_campaign(settings)
    number = campaign_number(campaign_id)
    queue_name = settings.queues[0].name
    async with connected(settings) as stores:
        campaigns, queue = stores.campaigns, stores.queues[queue_name]
        survey = queue.survey()
        opened = await campaigns.open(number)
        if opened is None:
            raise NoSuchCampaign(f"there is no campaign {number} in {settings.database_schema}")
        if opened.status == "cancelled":
            raise NoSuchCampaign(f"campaign {number} is cancelled")
        await campaigns.fan_out(number, queue_name)
        total, done = await campaigns.pending_count(number), 0
        async for page in campaigns.pending(number):
            jobs = [
                mail_job(number, row.recipient_id, row.step, delay_seconds=row.due_in_seconds)
                for row in page
            ]
            standings = await survey.look([job.id for job in jobs])
            await queue.revive(
                [job for job, at in zip(jobs, standings, strict=True) if at not in _ON_THEIR_WAY]
            )
            done += len(page)
            progress(done, max(total, done))
        return done


async def status(settings: Settings) -> Status:
    """Read how things stand. Raises Away and CredentialsRefused."""
    async with connected(settings) as stores:
        return Status(
            queues={name: await queue.counts() for name, queue in stores.queues.items()},
            campaigns=await stores.campaigns.overview(_CAMPAIGNS_SHOWN),
            untrue_counts=await stores.campaigns.untrue_counts(),
        )


async def list_doubts(settings: Settings, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """Read the mails whose outcome SMTP could not tell. Raises Away and CredentialsRefused."""
    async with connected(settings) as stores:
        return await stores.doubts.list(selection, limit)


async def decide_doubts(settings: Settings, selection: Selection, verdict: Verdict) -> int:
    """Write an operator's verdict on mails in doubt; how many it met.

    Mails that are to be sent again get a job at once. Raises Away and CredentialsRefused.
    """
    async with connected(settings) as stores:
        rows = await stores.doubts.decide(selection, verdict)
        if verdict is Verdict.RESEND and rows:
            await stores.scheduler.revive(rows)
        return len(rows)


async def list_failures(
    settings: Settings, selection: Selection, limit: int
) -> list[dict[str, Any]]:
    """Read the mails that ran out of attempts or owners. Raises Away and CredentialsRefused."""
    async with connected(settings) as stores:
        return await stores.failures.list(selection, limit)


async def retry_failures(settings: Settings, selection: Selection) -> int:
    """Send such mails after all, with a job at once; how many it met.

    Raises Away and CredentialsRefused.
    """
    async with connected(settings) as stores:
        rows = await stores.failures.retry(selection)
        if rows:
            await stores.scheduler.revive(rows)
        return len(rows)


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connected]:
    """Open everything that a command works with. Raises Away, CredentialsRefused, ContractError."""
    settings, source = served(settings)
    client = ConnectionSpec.of(settings.redis_url.get_secret_value()).client()
    database = Database(database_options(settings))
    prefix = settings.bullmq_prefix
    forms = None if source is None else app_forms(source, database)
    queues = {spec.name: MailQueue(client, spec.name, prefix, forms) for spec in settings.queues}

    def queue_of(name: str) -> MailQueue:
        # A row may name a queue that the settings do not.
        return queues.get(name) or MailQueue(client, name, prefix, forms)

    epochs = QueueEpochs(client, list(queues), prefix)
    try:
        await ping_redis(client)
        await database.open_migrated()
        yield Connected(
            database=database,
            queues=queues,
            campaigns=Campaigns(database),
            doubts=Doubts(database),
            failures=Failures(database),
            scheduler=Scheduler(
                queue_of, settings.queues[0].name, epochs, partial(whole_rows, database)
            ),
        )
    finally:
        await database.close(Deadline.after(_CLOSE_SECONDS))
        await client.aclose()


def app_forms(source: Source, database: Database) -> AppForms:
    """Give jobs that a command adds the form of the app's own."""

    def pass_on(error: ContractBroken) -> None:
        raise error

    tables = AppTables(database, source, normalize=normalize, listener=Fanout(), on_broken=pass_on)
    return AppForms(source.contract, tables.mails_of, tables.campaign_of)


def refuse_an_app_s_campaign(settings: Settings) -> None:
    """Raise NoSuchCampaign where campaigns are an app's: its own tables say whether they run."""
    if settings.contract is not None:
        raise NoSuchCampaign("CONTRACT is set: the app starts, pauses and resumes its campaigns")


def campaign_number(text: str) -> int:
    """Read a campaign's id. Raises PayloadError."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(_ID_MAX))
    if not digits or int(text) > _ID_MAX:
        problem = f"must be a number up to {_ID_MAX}, not {text[:_SHOWN_MAX]!r}"
        raise PayloadError("CAMPAIGN_ID", problem)
    return int(text)
