"""What a worker would do with the jobs that wait: parsed, guarded and rendered, and nothing sent.

Takes no job, writes no row, opens no connection to a mail server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from campaign_worker.contract.asked import (
    AppMail,
    AskedLaunch,
    AskedMany,
    AskedOne,
    AskedOwn,
    AskedWhole,
)
from campaign_worker.contract.payload import asked
from campaign_worker.contract.reading import Source
from campaign_worker.delivery import payload
from campaign_worker.delivery.claims import (
    Busy,
    Claim,
    Claimed,
    Final,
    GoesAlone,
    Missing,
    NotYet,
)
from campaign_worker.delivery.requests import InlineRequest
from campaign_worker.errors import AddressError, PayloadError, RenderError
from campaign_worker.mail.compose import ComposerOptions, MailComposer, normalize
from campaign_worker.mail.template_links import static_links
from campaign_worker.masking import without_addresses
from campaign_worker.operations import database_options
from campaign_worker.queue import ConnectionSpec, Job
from campaign_worker.queue.peek import waiting_jobs
from campaign_worker.settings import Settings
from campaign_worker.startup import ping_redis
from campaign_worker.storage.database import Database
from campaign_worker.storage.rehearsal import Rehearsal, Wanted
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls
from shutdown import Deadline

_CLOSE_SECONDS = 2.0
_BATCH = 200
_EXAMPLES = 5


@dataclass(slots=True)
class ShadowReport:
    """What would become of each mail: by outcome, with the first jobs of each that is no send.

    Outcomes are `send`, `skip: <reason>`, `wait: <reason>`, `ended: <state>`, `busy`, `fail:
    <fault>`, `park`, `launch`. `jobs` were looked at, `mails` are what they ask for.
    """

    jobs: int = 0
    mails: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, outcome: str, job_id: str) -> None:
        """Count one outcome; what quotes an address does so no more."""
        outcome = without_addresses(outcome)
        self.outcomes[outcome] += 1
        kept = self.examples.setdefault(outcome, [])
        if outcome != "send" and len(kept) < _EXAMPLES and job_id not in kept:
            kept.append(job_id)


async def shadow(
    settings: Settings,
    source: Source | None,
    limit: int,
    progress: Callable[[ShadowReport], None],
) -> ShadowReport:
    """Look at up to `limit` waiting jobs of each queue. `settings` serve the contract's queues.

    Raises RedisAway, DatabaseAway, CredentialsRefused, MigrationError.
    """
    client = ConnectionSpec.of(settings.redis_url.get_secret_value()).client()
    database = Database(database_options(settings))
    tracked = settings.tracking_base_url is not None
    report = ShadowReport()
    try:
        await ping_redis(client)
        await database.open_migrated()
        rehearsal = Rehearsal(
            database,
            source,
            normalize=normalize,
            static_links=static_links if tracked else None,
        )
        composer = MailComposer(ComposerOptions(settings.mail_from, _urls(settings)))
        for queue in settings.queues:
            async for page in waiting_jobs(client, queue.name, settings.bullmq_prefix, limit):
                report.jobs += len(page)
                wanted = [one for job in page for one in _wanted(source, job, composer, report)]
                for start in range(0, len(wanted), _BATCH):
                    batch = wanted[start : start + _BATCH]
                    claims = await rehearsal.claims([one for _, one in batch])
                    for (job_id, _), claim in zip(batch, claims, strict=True):
                        report.note(_outcome(claim, composer), job_id)
                    report.mails += len(batch)
                progress(report)
        return report
    finally:
        await database.close(Deadline.after(_CLOSE_SECONDS))
        await client.aclose()


def _wanted(
    source: Source | None,
    job: Job | PayloadError,
    composer: MailComposer,
    report: ShadowReport,
) -> Iterator[tuple[str, Wanted]]:
    if isinstance(job, PayloadError):
        report.note(f"fail: {job}", "?")
        return
    try:
        for one in _asked(source, job):
            if isinstance(one, str):
                report.note(one, job.id)
                continue
            if isinstance(one, InlineRequest):
                composer.checked(one.mail)
            yield job.id, one
    except PayloadError as error:
        report.note(f"fail: {error}", job.id)


def _asked(source: Source | None, job: Job) -> Sequence[Wanted | str]:
    """Give what a job asks for, or the word for what becomes of it. Raises PayloadError."""
    if source is None:
        if job.name not in payload.KNOWN_JOBS:
            return ["park"]
        stamp = job.timestamp
        return [
            payload.parse(
                job.name, job.data, queue=job.queue_name, job_id=job.id, timestamp_ms=stamp
            )
        ]
    found = asked(source.contract, job)
    match found:
        case AskedOne(mail):
            mails: list[AppMail] = [mail]
            return mails
        case AskedMany(several):
            return several
        case AskedWhole(request) | AskedOwn(request):
            return [request]
        case AskedLaunch():
            return ["launch"]
        case _:
            return ["park"]


def _outcome(claim: Claim, composer: MailComposer) -> str:
    match claim:
        case Claimed():
            try:
                composer.compose(claim)
            except (RenderError, AddressError, PayloadError) as error:
                return f"fail: {error}"
            return "send"
        case Final(state, reason, _):
            return f"skip: {reason}" if state.value == "skipped" else f"ended: {state.value}"
        case NotYet(reason, _):
            return f"wait: {reason}"
        case Busy():
            return "busy"
        case Missing(which, problem):
            return f"fail: {which}: {problem}"
        case GoesAlone():
            return "send"
        case _:
            assert_never(claim)


def _urls(settings: Settings) -> TrackingUrls | None:
    base = settings.tracking_base_url
    return None if base is None else TrackingUrls(base, Keyring(settings.tracking_signing_keys))
