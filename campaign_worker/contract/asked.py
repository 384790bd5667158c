"""What a job of an app asks for, by its contract: a closed set. Ids are the app's own, as text."""

from __future__ import annotations

from dataclasses import dataclass

from campaign_worker.contract.model import Progress
from campaign_worker.delivery.requests import InlineRequest, Request


@dataclass(frozen=True, slots=True)
class AppMail:
    """Step `step` of the app's campaign for one of its recipients.

    `step_id`: the follow-up's id in the app; its number is then still to be found.
    """

    campaign: str
    recipient: str
    step: int = 0
    step_id: str | None = None


@dataclass(frozen=True, slots=True)
class AskedOne:
    """A campaign's mail."""

    mail: AppMail


@dataclass(frozen=True, slots=True)
class AskedMany:
    """Mails to a list of recipients, each once; `parallel` of them at a time."""

    mails: tuple[AppMail, ...]
    progress: Progress
    parallel: int


@dataclass(frozen=True, slots=True)
class AskedWhole:
    """A mail that the job carries whole."""

    request: InlineRequest


@dataclass(frozen=True, slots=True)
class AskedLaunch:
    """A job for every recipient of a campaign."""

    campaign: str


@dataclass(frozen=True, slots=True)
class AskedOwn:
    """A job that this program has added itself, in its own form: the ids are ours."""

    request: Request


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Somebody else's job."""


@dataclass(frozen=True, slots=True)
class NobodysAnyMore:
    """A job that has to fail."""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A job whose name stands nowhere in the contract."""


Asked = (
    AskedOne | AskedMany | AskedWhole | AskedLaunch | AskedOwn | NotOurs | NobodysAnyMore | Unnamed
)
