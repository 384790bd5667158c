"""What a contract may say: one frozen class for each table of contract.toml.

Shapes, bounds and texts for people. The JSON schema and docs/contract.md are made of these classes.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from campaign_worker.settings.stores import LIMITER_MOST

Path = Annotated[
    str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^.\s]+(\.[^.\s]+)*$")
]
Sql = Annotated[str, StringConstraints(min_length=1, max_length=100_000, strip_whitespace=False)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Scalar = str | bool | int | float | None


class Part(BaseModel):
    """What all tables share."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class IdKind(enum.StrEnum):
    """The type of an id's column, as Postgres names it."""

    UUID = "uuid"
    BIGINT = "bigint"
    INTEGER = "integer"
    TEXT = "text"


class Ids(Part):
    """The column types of the app's ids. Prisma's String ids are text, also if they hold UUIDs."""

    campaign: IdKind = Field(default=IdKind.TEXT, description="Type of campaign ids.")
    recipient: IdKind = Field(default=IdKind.TEXT, description="Type of recipient ids.")


class Limit(Part):
    """BullMQ's limiter: at most `max` jobs in `duration_ms`, over all workers of the queue."""

    max: int = Field(ge=1, le=LIMITER_MOST, description="Jobs.")
    duration_ms: int = Field(ge=1, le=LIMITER_MOST, description="The window, in milliseconds.")


class Queue(Part):
    """One queue that is worked on."""

    concurrency: int | None = Field(
        default=None, ge=1, le=10_000, description="Jobs at once in a process; else CONCURRENCY."
    )
    limiter: Limit | None = Field(
        default=None, description="As the app's Worker option `limiter`; else LIMITER_MAX."
    )


class MailFields(Part):
    """Where a job carries a whole mail: a path in its data for each part."""

    to: Path = Field(description="An address, a list of them, or {name, address}.")
    subject: Path = Field(description="The subject, ready to send.")
    html: Path | None = Field(default=None, description="The HTML body; or text, or both.")
    text: Path | None = Field(default=None, description="The text body.")
    sender: Path | None = Field(default=None, alias="from", description="The From address.")
    reply_to: Path | None = Field(default=None, description="The Reply-To address.")
    cc: Path | None = Field(default=None, description="As `to`.")
    bcc: Path | None = Field(default=None, description="As `to`.")
    headers: Path | None = Field(default=None, description="An object of further headers.")
    attachments: Path | None = Field(
        default=None, description="A list of {filename, content, encoding, contentType}."
    )
    key: Path | None = Field(
        default=None,
        description="What tells one mail from another, as the id of its row in the app: the same "
        "key is the same mail. Without it queue, job id and timestamp do.",
    )


class Progress(enum.StrEnum):
    """What a job with many recipients reports as its progress."""

    PERCENT = "percent"
    COUNT = "count"
    NONE = "none"


class _Ends(Part):
    returns: dict[str, Scalar] | None = Field(
        default=None,
        description="The job's return value, if the app reads it. Values that begin with a colon "
        "are filled in: :outcome, :message_id, :reason; of a list :total, :sent, :skipped, :failed,"
        " :in_doubt.",
    )


class SendJob(_Ends):
    """A first mail: to one recipient, to a list of them, or a whole mail in the job's data."""

    kind: Literal["send"]
    campaign: Path | None = Field(default=None, description="Path of the campaign's id.")
    recipient: Path | None = Field(
        default=None,
        description="Path of the recipient's id; with `recipients` the path in each element, left "
        "out where the elements are the ids themselves.",
    )
    recipients: Path | None = Field(default=None, description="Path of a list of recipients.")
    mail: MailFields | None = Field(default=None, description="Where the whole mail is.")
    progress: Progress = Field(
        default=Progress.PERCENT,
        description="Of a list: percent (a number to 100), count ({done, total}), or none.",
    )
    parallel: int = Field(
        default=5, ge=1, le=100, description="Of a list: how many of its mails are under way."
    )


class FollowUpJob(_Ends):
    """A further mail of a campaign to one recipient."""

    kind: Literal["follow-up"]
    campaign: Path = Field(description="Path of the campaign's id.")
    recipient: Path = Field(description="Path of the recipient's id.")
    step: Path | Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="Path of the step's number (the first follow-up is 1), or the number itself.",
    )
    step_id: Path | None = Field(
        default=None,
        description="Instead of step: path of the follow-up's own id, which [load.steps] gives as "
        "column id.",
    )


class LaunchJob(_Ends):
    """One job that starts a campaign: every recipient of [load.audience] gets a job."""

    kind: Literal["launch"]
    campaign: Path = Field(description="Path of the campaign's id.")


class ParkJob(Part):
    """Somebody else's job: put off by 5 minutes, again and again, no attempt spent."""

    kind: Literal["park"]


class FailJob(Part):
    """A job that nobody serves any more: it fails at once."""

    kind: Literal["fail"]


Job = Annotated[SendJob | FollowUpJob | LaunchJob | ParkJob | FailJob, Field(discriminator="kind")]


class Statement(Part):
    """One SQL statement."""

    query: Sql = Field(description="The statement, with named parameters.")


class CampaignStatus(enum.StrEnum):
    """What a campaign's status means to the worker."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAFT = "draft"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class LoadCampaigns(Statement):
    """The SELECT that reads campaigns."""

    status: dict[CampaignStatus, list[Word]] = Field(
        description="The app's words for each status. A word that stands nowhere counts as paused."
    )


class Load(Part):
    """The SELECTs that read the app's tables."""

    campaigns: LoadCampaigns | None = Field(default=None, description="Campaigns by id.")
    recipients: Statement | None = Field(default=None, description="Recipients by id.")
    steps: Statement | None = Field(default=None, description="Follow-ups of campaigns.")
    audience: Statement | None = Field(
        default=None, description="Ids of a campaign's recipients, page by page, for launch jobs."
    )
    suppressions: Statement | None = Field(
        default=None, description="Addresses that must not be mailed."
    )
    mails: Statement | None = Field(
        default=None, description="What the app knows of whole mails, by key."
    )


class MailState(enum.StrEnum):
    """Endings of a mail that can be written back."""

    SENT = "sent"
    FAILED = "failed"
    BOUNCED = "bounced"
    SKIPPED = "skipped"
    IN_DOUBT = "in_doubt"


class Write(Part):
    """The statements that write back, in the transaction that changes our rows.

    Suppressions, and counts of opens and clicks, follow within seconds.
    """

    states: dict[MailState, Word] = Field(
        default_factory=lambda: {state: state.value for state in MailState},
        description="The app's word for each ending; mails of an ending without one are not "
        "written. bounced, where left out, is failed.",
    )
    recipients: Statement | None = Field(default=None, description="Status of recipients.")
    campaigns: Statement | None = Field(default=None, description="Counts of campaigns.")
    mails: Statement | None = Field(default=None, description="Status of whole mails, by key.")
    suppressions: Statement | None = Field(
        default=None, description="Addresses that must not be mailed any more."
    )


class FollowUps(Part):
    """Who adds the jobs of follow-ups."""

    scheduled_by: Literal["worker", "app"] = Field(
        default="worker",
        description="worker: after each mail that was sent the next step's job is added, delayed. "
        "app: the app adds it, and nobody else does.",
    )


class Contract(Part):
    """A contract with an existing app."""

    version: Literal[1] = Field(description="Version of this format.")
    queues: dict[Word, Queue] = Field(
        min_length=1, description="Queues that `run` works on, instead of QUEUES."
    )
    jobs: dict[Word, Job] = Field(
        min_length=1,
        description="Jobs by name. `queue:name` serves one queue only, `*` every other name.",
    )
    ids: Ids = Field(default=Ids(), description="Types of the app's ids.")
    load: Load = Field(default=Load(), description="How the app's tables are read.")
    write: Write = Field(default=Write(), description="How the app's tables are written.")
    follow_ups: FollowUps = Field(default=FollowUps(), description="Who schedules follow-ups.")
