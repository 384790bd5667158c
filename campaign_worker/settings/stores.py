"""The settings of the stores and the queue: Postgres, Redis, BullMQ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from campaign_worker.settings import parse, urls
from campaign_worker.settings.base import Base, reads
from campaign_worker.settings.kinds import About, Pooler, QueueSpec, SecretUrl, UnknownJobs, Wrong

LIMITER_MOST = 1_000_000_000
"""Jobs, or milliseconds (11 days): what Redis cannot count, it would refuse at each claim."""

_POSTGRES = "postgresql://user:password@host:5432/database"


class DatabaseSettings(Base):
    """Postgres, where the truth is. All that `migrate` needs."""

    database_url: Annotated[
        SecretUrl,
        BeforeValidator(reads(urls.database_url)),
        About(check="postgres:// or postgresql://", example=_POSTGRES),
    ] = Field(
        description="Postgres, in Railway's, Heroku's or SQLAlchemy's form. Arguments that only "
        "Prisma, node-postgres or libpq know are taken out; pgbouncer=true is obeyed as "
        "DATABASE_POOLER=transaction."
    )
    database_pooler: Annotated[Pooler, About(default="session")] = Field(
        default=Pooler.SESSION,
        description="transaction: behind PgBouncer or another pooler in transaction mode, where no "
        "named prepared statement may be used.",
    )
    migrate_database_url: Annotated[
        SecretUrl | None,
        BeforeValidator(reads(urls.database_url)),
        About(default="DATABASE_URL", check="as DATABASE_URL", example=_POSTGRES),
    ] = Field(
        default=None,
        description="Where migrations run: the direct way, when DATABASE_URL is a pooler's.",
    )
    database_schema: Annotated[
        str, AfterValidator(parse.schema_name), About(check="an identifier; not public, not pg_*")
    ] = Field(
        default="campaign_worker",
        description="The schema that holds all our tables; the app's own tables stay untouched.",
    )
    database_pool_size: Annotated[int, About(unit="connections")] = Field(
        default=10, ge=1, le=500, description="Most connections to Postgres of one process."
    )

    @field_validator("database_pooler", mode="before")
    @classmethod
    def _obey_pgbouncer(cls, value: object, info: ValidationInfo) -> object:
        """Take pgbouncer=true in DATABASE_URL for an answer while the variable itself is unset."""
        url = info.data.get("database_url")
        unset = value is Pooler.SESSION
        implied = isinstance(url, SecretUrl) and bool(url.implies)
        return Pooler.TRANSACTION if unset and implied else value

    @field_validator("migrate_database_url")
    @classmethod
    def _default_to_database(
        cls, value: SecretUrl | None, info: ValidationInfo
    ) -> SecretUrl | None:
        return value or info.data.get("database_url")


class QueueSettings(Base):
    """Redis and BullMQ: which jobs, how many at once, how they are held."""

    redis_url: Annotated[
        SecretUrl,
        BeforeValidator(reads(urls.redis_url)),
        About(
            check="redis://, rediss:// or unix://", example="redis://default:password@host:6379/0"
        ),
    ] = Field(
        description="Redis of the app's BullMQ. ?family=0, which Node apps add, is taken out. "
        "?ssl_cert_reqs=none accepts a self-signed certificate, as Heroku's."
    )
    bullmq_prefix: Annotated[str, AfterValidator(parse.bullmq_prefix), About(check="no spaces")] = (
        Field(
            default="bull",
            min_length=1,
            description="First part of BullMQ's keys (`prefix` in Node).",
        )
    )
    concurrency: Annotated[int, About(unit="jobs")] = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Jobs at once, for each queue that names no number itself.",
    )
    queues: Annotated[
        tuple[QueueSpec, ...],
        About(
            default="campaign",
            check="name or name:concurrency, comma separated",
            example="campaign:20",
        ),
    ] = Field(default=(), description="Queues that `run` works on.")
    lock_duration_ms: Annotated[int, About(unit="ms")] = Field(
        default=30_000,
        ge=500,
        le=3_600_000,
        description="How long a job stays ours without a renewal (`lockDuration`).",
    )
    stalled_interval_ms: Annotated[int, About(unit="ms")] = Field(
        default=30_000,
        ge=100,
        le=3_600_000,
        description="How often jobs without a lock are looked for (`stalledInterval`).",
    )
    max_stalled_count: Annotated[int, About(unit="times")] = Field(
        default=1,
        ge=0,
        le=1000,
        description="How often a job may stall (`maxStalledCount`). Of one that did more often the "
        "sweep notes that it shall fail, and a Node worker on the same queue fails it. This worker "
        "runs it: its row counts the processes that ended with it in hand (QUARANTINE_DEATHS).",
    )
    limiter_max: Annotated[int | None, About(unit="jobs", default="no limit", example="100")] = (
        Field(
            default=None,
            ge=1,
            le=LIMITER_MOST,
            description="Jobs per LIMITER_DURATION_MS, shared by all workers (`limiter.max`).",
        )
    )
    limiter_duration_ms: Annotated[
        int | None,
        About(
            unit="ms",
            default="no limit",
            check=f">= 1, <= {LIMITER_MOST}; together with LIMITER_MAX",
            example="1000",
        ),
    ] = Field(
        default=None,
        ge=1,
        le=LIMITER_MOST,
        description="The window of LIMITER_MAX (`limiter.duration`).",
    )
    contract: Annotated[Path | None, About(default="none", example="contract.toml")] = Field(
        default=None,
        description="The file that describes an existing app: its queues (instead of QUEUES), jobs "
        "and tables; see docs/contract.md. Without it our own tables serve.",
    )
    unknown_jobs: UnknownJobs = Field(
        default=UnknownJobs.PARK,
        description="Jobs whose name nobody here knows: park puts them off by 5 minutes without "
        "spending an attempt, fail fails them.",
    )

    @field_validator("queues", mode="before")
    @classmethod
    def _read_queues(cls, value: object, info: ValidationInfo) -> object:
        """Give queues without a number CONCURRENCY; 1 only while that itself is refused."""
        if value == () or isinstance(value, str):
            return parse.queues(value or "campaign", info.data.get("concurrency", 1))
        return value

    @field_validator("limiter_duration_ms")
    @classmethod
    def _both_or_none(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "limiter_max" in info.data and (value is None) != (info.data["limiter_max"] is None):
            missing = "LIMITER_DURATION_MS" if value is None else "LIMITER_MAX"
            raise Wrong(
                "is missing: a limit needs both values",
                f"set {missing} or unset the other",
                missing,
            )
        return value
