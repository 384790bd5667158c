"""Frozen settings: each with unit, default and check, read once from the environment and `.env`.

Imports nothing of ours but errors; opens no connection.
"""

from campaign_worker.settings.document import Shown, configuration_page, show
from campaign_worker.settings.drain import Drain
from campaign_worker.settings.kinds import (
    AmbiguousSend,
    ClientHash,
    LogFormat,
    LogLevel,
    Pooler,
    QueueLimit,
    QueueSpec,
    Secret,
    SecretUrl,
    SigningKey,
    UnknownJobs,
)
from campaign_worker.settings.mailing import DEFAULT_TRANSPORT, transport_variable
from campaign_worker.settings.model import Settings, TrackerSettings
from campaign_worker.settings.stores import DatabaseSettings
from campaign_worker.settings.webhooks import WebhookSettings

__all__ = [
    "DEFAULT_TRANSPORT",
    "AmbiguousSend",
    "ClientHash",
    "DatabaseSettings",
    "Drain",
    "LogFormat",
    "LogLevel",
    "Pooler",
    "QueueLimit",
    "QueueSpec",
    "Secret",
    "SecretUrl",
    "Settings",
    "Shown",
    "SigningKey",
    "TrackerSettings",
    "UnknownJobs",
    "WebhookSettings",
    "configuration_page",
    "show",
    "transport_variable",
]
