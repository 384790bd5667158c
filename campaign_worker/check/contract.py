"""Does a contract fit queue and database as they are? Reads both, takes and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio

from campaign_worker.check.contract_samples import Sample, missing_rows, samples, word_trials
from campaign_worker.contract.asked import AppMail, AskedMany, AskedOne, NotOurs, Unnamed
from campaign_worker.contract.payload import asked
from campaign_worker.contract.reading import Source
from campaign_worker.errors import ContractProblem, PayloadError
from campaign_worker.operations import database_options
from campaign_worker.queue import ConnectionSpec
from campaign_worker.queue.peek import waiting_jobs
from campaign_worker.settings import Settings
from campaign_worker.startup import ping_redis
from campaign_worker.storage.contract_probe import ContractProbe, Look
from campaign_worker.storage.database import Database
from campaign_worker.storage.migrate import known_migrations, schema_version
from shutdown import Deadline

JOBS_LOOKED_AT = 5000

_CLOSE_SECONDS = 2.0
_FAILURES_KEPT = 3


@dataclass(slots=True)
class NameReport:
    """What was seen of one job name: how many jobs, what they were, the first that did not parse.

    `failures` are (job id, fault); a fault names the field.
    """

    queue: str
    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """How many jobs of this name were looked at."""
        return self.kinds.total() + self.failed


@dataclass(frozen=True, slots=True)
class ContractReport:
    """Everything that was found; `ready` when nothing has to change."""

    file: str
    problems: tuple[ContractProblem, ...]
    warnings: tuple[str, ...]
    names: Sequence[NameReport]
    waiting: Mapping[str, int]
    looks: Sequence[Look]
    samples: Sequence[Sample]

    @property
    def ready(self) -> bool:
        """Whether a worker would start by it, and read every job that was seen."""
        return not self.problems and not any(one.failed for one in self.names)


async def check_contract(settings: Settings, source: Source) -> ContractReport:
    """Look at everything. `settings` are those that serve the contract's queues.

    Raises RedisAway, DatabaseAway, CredentialsRefused.
    """
    client = ConnectionSpec.of(settings.redis_url.get_secret_value()).client()
    database = Database(database_options(settings))
    try:
        await ping_redis(client)
        await database.open()
        names, mails, waiting = await _queues(client, settings, source)
        probe = ContractProbe(database, source)
        looks = await probe.looks()
        problems = tuple(one for look in looks for one in look.problems)
        taken = [] if problems else await samples(probe, source, mails)
        if not problems:
            problems += tuple(await word_trials(probe, source, mails))
        return ContractReport(
            file=source.file,
            problems=problems + tuple(one.problem for one in taken if one.problem is not None),
            warnings=(
                *_warnings(source, looks, names),
                *missing_rows(taken),
                *await _refusals(database, probe, settings.database_schema),
            ),
            names=names,
            waiting=waiting,
            looks=looks,
            samples=taken,
        )
    finally:
        await database.close(Deadline.after(_CLOSE_SECONDS))
        await client.aclose()


async def _refusals(database: Database, probe: ContractProbe, schema: str) -> list[str]:
    async with database.transaction() as connection:
        if await schema_version(connection, schema) < known_migrations()[-1].version:
            return [f"schema {schema} is not migrated; run: campaign-worker migrate"]
    return [
        f"{row['endings']} endings were refused by the app's tables: {row['problem']}"
        for row in await probe.untold()
    ]


async def _queues(
    client: redis.asyncio.Redis, settings: Settings, source: Source
) -> tuple[list[NameReport], list[AppMail], dict[str, int]]:
    reports: dict[tuple[str, str], NameReport] = {}
    mails: list[AppMail] = []
    waiting: dict[str, int] = {}
    for queue in settings.queues:
        waiting[queue.name] = 0
        pages = waiting_jobs(client, queue.name, settings.bullmq_prefix, JOBS_LOOKED_AT)
        async for page in pages:
            waiting[queue.name] += len(page)
            for job in page:
                name = "?" if isinstance(job, PayloadError) else job.name
                report = reports.setdefault((queue.name, name), NameReport(queue.name, name))
                _note(source, report, job, mails)
    return list(reports.values()), mails, waiting


def _note(source: Source, report: NameReport, job: Any, mails: list[AppMail]) -> None:
    try:
        if isinstance(job, PayloadError):
            raise job
        found = asked(source.contract, job)
    except PayloadError as error:
        report.failed += 1
        if len(report.failures) < _FAILURES_KEPT:
            report.failures.append((getattr(job, "id", "?"), str(error)))
        return
    match found:
        case AskedOne(mail):
            mails.append(mail)
        case AskedMany(several):
            mails.extend(several[:1])
        case _:
            pass
    report.kinds[_word(found)] += 1


def _word(found: object) -> str:
    match found:
        case Unnamed():
            return "not in the contract"
        case NotOurs():
            return "parked"
        case _:
            return type(found).__name__.removeprefix("Asked").lower()


def _warnings(source: Source, looks: Sequence[Look], names: Sequence[NameReport]) -> list[str]:
    said = [
        f"{look.place}: no index of {', '.join(look.scans)} serves its keys; each batch reads all"
        for look in looks
        if look.scans
    ]
    unnamed = [one for one in names if one.kinds["not in the contract"]]
    said += [
        f"jobs named {one.name} ({one.kinds['not in the contract']} in {one.queue}) stand nowhere"
        " in the contract: they are parked, or fail, as UNKNOWN_JOBS says"
        for one in unnamed
    ]
    contract = source.contract
    columns = {look.place: look.columns for look in looks}
    if "load.recipients" in columns and not {"sent", "sent_step"} & set(columns["load.recipients"]):
        said.append(
            "load.recipients has no column sent: a mail that a Node worker has sent is not known"
            " as such, and may go out again"
        )
    if contract.load.recipients is not None and contract.write.recipients is None:
        said.append("[write.recipients] is missing: the app's rows never hear of a mail that went")
    return said
