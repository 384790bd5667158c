"""Every error of the product, in one tree. Decisions read types and attributes, never texts.

CampaignWorkerError
├── SettingsError            a setting is missing or wrong: names it and how to mend it
│   ├── InvalidSettings      all that is wrong with the settings, at once
│   ├── UnsupportedOption    a BullMQ option that is not honoured yet
│   └── ContractError        contract.toml is wrong, or does not fit the database: names the lines
├── ScriptsChanged           a Lua script of the bullmq package is not the one we know
├── JobGone                  a job that is to be written to is no longer in Redis
├── JobNotHeld               a job's lock is gone, or somebody else's
├── JobTimedOut              a job took longer than its worker's jobTimeout: an attempt is spent
├── JobRefused               a job cannot be moved or removed as asked: says why
├── NoNextIteration          a job scheduler's chain ends with a job: names both
├── PayloadError             a job's data does not fit: names the field
├── RenderError              a template cannot be rendered for this recipient: names the variable
├── AddressError             an address that no envelope or header may carry
├── InvalidToken             a tracking token that we have not signed
├── WebhookForged            a webhook's signature, secret, time or topic is not its provider's
├── WebhookMalformed         a webhook says nothing that its provider documents
├── Away                     something of ours is out of reach; no attempt is spent on it
│   ├── RedisAway
│   ├── DatabaseAway
│   │   └── ContractBroken   a statement of contract.toml does not fit the database any more
│   ├── ProviderAway         a mail provider's server does not say whether a webhook is its own
│   └── TransportDown        an SMTP server or an API cannot be reached, or refuses us
│       └── TooManyBounces   it calls too many recipients dead to be believed
├── SmtpRefused              the server answered with a refusal, in a known phase
├── SmtpLost                 no answer came, in a known phase
├── HttpRefused              a provider's API answered with an error
├── HttpLost                 no answer came to a request that was written
├── MailNotSent              why a mail's job failed: its failedReason
├── RowRefused               Postgres refuses a value of one row, and no other
├── ReconcilerTaken          another process reconciles now
├── MigrationError           the schema is not ours, or not what the code expects
├── CredentialsRefused       a server answered: wrong user, password or database
├── EmbeddedServerError      a server of the embedded stack did not start or stop as it should
│   └── BinaryMissing        its program is not installed: names the package to install
└── DemoFailed               a step of the demo did not come to its end: names the step
"""

from __future__ import annotations

from campaign_worker.errors.away import (
    Away,
    ContractBroken,
    DatabaseAway,
    ProviderAway,
    RedisAway,
)
from campaign_worker.errors.jobs import (
    JobGone,
    JobNotHeld,
    JobRefused,
    JobTimedOut,
    MailNotSent,
    NoNextIteration,
    PayloadError,
)
from campaign_worker.errors.mailing import (
    AddressError,
    HttpLost,
    HttpRefused,
    RenderError,
    SmtpLost,
    SmtpPhase,
    SmtpRefused,
    TooManyBounces,
    TransportDown,
)
from campaign_worker.errors.requests import (
    InvalidToken,
    WebhookForged,
    WebhookMalformed,
)
from campaign_worker.errors.root import (
    CampaignWorkerError,
)
from campaign_worker.errors.rows import (
    ReconcilerTaken,
    RowRefused,
)
from campaign_worker.errors.starting import (
    BinaryMissing,
    ContractError,
    ContractProblem,
    CredentialsRefused,
    DemoFailed,
    EmbeddedServerError,
    InvalidSettings,
    MigrationError,
    ScriptsChanged,
    SettingsError,
    UnsupportedOption,
)

__all__ = [
    "AddressError",
    "Away",
    "BinaryMissing",
    "CampaignWorkerError",
    "ContractBroken",
    "ContractError",
    "ContractProblem",
    "CredentialsRefused",
    "DatabaseAway",
    "DemoFailed",
    "EmbeddedServerError",
    "HttpLost",
    "HttpRefused",
    "InvalidSettings",
    "InvalidToken",
    "JobGone",
    "JobNotHeld",
    "JobRefused",
    "JobTimedOut",
    "MailNotSent",
    "MigrationError",
    "NoNextIteration",
    "PayloadError",
    "ProviderAway",
    "ReconcilerTaken",
    "RedisAway",
    "RenderError",
    "RowRefused",
    "ScriptsChanged",
    "SettingsError",
    "SmtpLost",
    "SmtpPhase",
    "SmtpRefused",
    "TooManyBounces",
    "TransportDown",
    "UnsupportedOption",
    "WebhookForged",
    "WebhookMalformed",
]
