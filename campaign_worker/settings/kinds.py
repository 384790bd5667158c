"""The kinds of value that settings consist of: masked secrets, closed sets, small records.

Knows no environment and no pydantic; owns nothing but shapes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Wrong(ValueError):
    """What a check found: `problem`, `mend`, and the variable when another one is at fault."""

    def __init__(self, problem: str, mend: str = "", setting: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend
        self.setting = setting


class Pooler(enum.StrEnum):
    """How Postgres is reached: TRANSACTION is a pooler without named prepared statements."""

    SESSION = "session"
    TRANSACTION = "transaction"


class AmbiguousSend(enum.StrEnum):
    """What becomes of a mail whose outcome SMTP could not tell."""

    HOLD = "hold"
    RESEND = "resend"


class UnknownJobs(enum.StrEnum):
    """What becomes of a job whose name nobody here knows."""

    PARK = "park"
    FAIL = "fail"


class ClientHash(enum.StrEnum):
    """What is kept of a client's address."""

    DAILY = "daily"
    NONE = "none"


class LogFormat(enum.StrEnum):
    """AUTO is console on a terminal, json elsewhere."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(enum.StrEnum):
    """The least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, repr=False)
class SecretUrl:
    """A URL whose password shows in `get_secret_value()` and nowhere else.

    `masked` is fit for logs. `ignored` names query arguments that were taken out and that nobody
    here understands; `implies` names those that were obeyed in another setting.
    """

    value: str
    masked: str
    ignored: tuple[str, ...] = ()
    implies: tuple[str, ...] = ()

    def get_secret_value(self) -> str:
        """Return the URL as a driver takes it, with its password."""
        return self.value

    def __str__(self) -> str:
        """Return the masked form."""
        return self.masked

    def __repr__(self) -> str:
        """Return the masked form."""
        return f"SecretUrl({self.masked!r})"


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A key that signs tracking tokens. `id` travels in them, `secret` never leaves the process."""

    id: str
    secret: str

    def __repr__(self) -> str:
        """Return the id only."""
        return f"SigningKey({self.id!r}, '***')"

    def __str__(self) -> str:
        """Return the form of the setting, masked."""
        return f"{self.id}:***"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A text that shows in `get_secret_value()` and nowhere else."""

    value: str

    def get_secret_value(self) -> str:
        """Return the text itself."""
        return self.value

    def __str__(self) -> str:
        """Return the masked form."""
        return "***"

    def __repr__(self) -> str:
        """Return the masked form."""
        return "Secret('***')"


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """At most `max` jobs in `duration_ms`, over all workers of a queue."""

    max: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """One queue that `run` works on, and how many of its jobs run at once in this process.

    `limit`: its own; None: LIMITER_MAX, if that is set.
    """

    name: str
    concurrency: int
    limit: QueueLimit | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What docs/configuration.md says of a setting beside its type and description."""

    unit: str = ""
    default: str = ""
    check: str = ""
    example: str = ""
