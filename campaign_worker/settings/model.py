"""All settings of the worker in one frozen object, with the relations between its groups."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from campaign_worker.settings import parse
from campaign_worker.settings.base import Base
from campaign_worker.settings.drain import Drain, drain_window
from campaign_worker.settings.kinds import About, LogFormat, LogLevel, QueueSpec
from campaign_worker.settings.mailing import MailSettings, TrackingSettings
from campaign_worker.settings.recording import RecordingSettings
from campaign_worker.settings.stores import DatabaseSettings, QueueSettings
from campaign_worker.settings.webhooks import WebhookSettings

_BY_RAILWAY = "Set by Railway."
# docs.railway.com, Public Networking, Specs & Limits.
_RAILWAYS_CLIENT_HEADER = "X-Real-IP"


class ProcessSettings(Base):
    """The process itself: its clocks, its port, its stop, its logs."""

    lease_seconds: Annotated[float, About(unit="s")] = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="How long a claimed row belongs to its claimer without a renewal. Renewed "
        "at a third of that, however long a send takes.",
    )
    reconcile_interval_seconds: Annotated[float, About(unit="s")] = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How often rows without a live job and leases that ran out are looked for.",
    )
    reconcile_overdue_seconds: Annotated[float, About(unit="s")] = Field(
        default=120.0,
        ge=0,
        le=86_400,
        description="How long a row must have been due before its job is looked for. Rows of "
        "follow-ups that never had a job are looked for after 5 s.",
    )
    quarantine_deaths: Annotated[int, About(unit="processes")] = Field(
        default=5,
        ge=1,
        le=1000,
        description="After so many processes have ended with a mail in hand it is failed as "
        "quarantined, and goes out only if an operator says so. From the second on it is sent "
        "alone in its process.",
    )
    port: int = Field(
        default=8080,
        ge=1,
        le=65_535,
        description="Port of /health, /ready and /metrics, of tracking links and webhooks. Set by "
        "Railway.",
    )
    drain_seconds: Annotated[
        float | None, About(unit="s", default="30; 0 on Railway", example="60")
    ] = Field(
        default=None,
        ge=0,
        le=3600,
        description="Time from SIGTERM to SIGKILL that the platform grants. The image sets 60.",
    )
    railway_deployment_draining_seconds: Annotated[
        float | None, About(unit="s", default="none", example="60")
    ] = Field(
        default=None,
        ge=0,
        le=3600,
        description="Railway's own number for the same. Where DRAIN_SECONDS is set and differs, as "
        "the image's 60 may, the smaller is used and the start log says so: change both.",
    )
    railway_service_id: Annotated[str | None, About(default="none")] = Field(
        default=None, description=f"Says that this is Railway. {_BY_RAILWAY}"
    )
    railway_environment_id: Annotated[str | None, About(default="none")] = Field(
        default=None, description=f"Says that this is Railway. {_BY_RAILWAY}"
    )
    instance_id: Annotated[str, About(default="RAILWAY_REPLICA_ID, else host name")] = Field(
        default_factory=parse.own_host,
        min_length=1,
        max_length=128,
        validation_alias=AliasChoices("INSTANCE_ID", "RAILWAY_REPLICA_ID"),
        description="Name of this process in logs and claims.",
    )
    log_format: LogFormat = Field(
        default=LogFormat.AUTO, description="auto: console on a terminal, json elsewhere."
    )
    log_level: LogLevel = Field(
        default=LogLevel.INFO,
        description="The least level that is written. Only debug shows addresses and subjects.",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _accept_other_spellings(cls, value: object) -> object:
        """Accept Python's and Node's spellings: WARNING, warn."""
        if not isinstance(value, str):
            return value
        return {"warn": "warning", "critical": "error"}.get(value.lower(), value.lower())

    @property
    def on_railway(self) -> bool:
        """Whether the platform is Railway."""
        return bool(self.railway_service_id or self.railway_environment_id)

    @property
    def drain(self) -> Drain:
        """The window between SIGTERM and SIGKILL, and what is doubtful about it."""
        return drain_window(
            self.drain_seconds, self.railway_deployment_draining_seconds, on_railway=self.on_railway
        )

    @property
    def stop_budget_seconds(self) -> float:
        """Seconds that a stop plans with (see drain.Drain)."""
        return self.drain.stop_budget_seconds


# pydantic validates the fields of the last base first: the validators below see what came before.
class TrackerSettings(
    ProcessSettings,
    WebhookSettings,
    RecordingSettings,
    TrackingSettings,
    QueueSettings,
    DatabaseSettings,
):
    """Everything that a tracker can be told, which sends no mail."""

    @property
    def client_ip_header(self) -> str | None:
        """The header that names the client, if there is a proxy that writes it."""
        railways = _RAILWAYS_CLIENT_HEADER if self.on_railway else None
        return self.tracking_client_ip_header or railways

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but doubtful, one sentence each, for the start log."""
        found = [*self.drain.warnings, *self.misnamed]
        urls = {"REDIS_URL": self.redis_url, "DATABASE_URL": self.database_url}
        for name, url in urls.items():
            if url.ignored:
                found.append(f"{name}: not understood and left out: {', '.join(url.ignored)}")
        if self.database_url.implies and "database_pooler" not in self.model_fields_set:
            found.append("DATABASE_URL: pgbouncer=true is taken for DATABASE_POOLER=transaction")
        if (self.tracking_base_url or "").startswith("http://"):
            found.append("TRACKING_BASE_URL: is no https, without which no mailbox unsubscribes")
        if self.stalled_interval_ms * 2 < self.lock_duration_ms:
            found.append(
                f"STALLED_INTERVAL_MS={self.stalled_interval_ms} is under half of LOCK_DURATION_MS="
                f"{self.lock_duration_ms}: it costs Redis and finds lost jobs hardly sooner"
            )
        return tuple(found)


class Settings(MailSettings, TrackerSettings):
    """Everything that the worker can be told. Read with `Settings.load()`."""

    @field_validator("smtp_max_connections")
    @classmethod
    def _a_connection_for_each_job(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None and "queues" in info.data:
            queues: tuple[QueueSpec, ...] = info.data["queues"]
            return sum(spec.concurrency for spec in queues)
        return value
