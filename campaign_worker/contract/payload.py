"""An app's job into what it asks for, by its contract; and back, for jobs that we have to add.

Foreign data: every fault is a PayloadError that names the field as the app wrote it. Pure.
"""

from __future__ import annotations

from typing import Any

from campaign_worker.contract.asked import (
    AppMail,
    Asked,
    AskedLaunch,
    AskedMany,
    AskedOne,
    AskedOwn,
    AskedWhole,
    NobodysAnyMore,
    NotOurs,
    Unnamed,
)
from campaign_worker.contract.keys import json_of, key_of
from campaign_worker.contract.model import (
    Contract,
    FailJob,
    FollowUpJob,
    Job,
    LaunchJob,
    MailFields,
    ParkJob,
    SendJob,
)
from campaign_worker.delivery import payload
from campaign_worker.delivery.ports import JobView
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, Request
from campaign_worker.errors import PayloadError

OWN_JOB = "campaign-worker"
"""The name of jobs in our own form, for what no job of the contract can say."""

OWN_FIELD = "campaignWorker"

_RECIPIENTS_MAX = 100_000
_STEP_MAX = 10_000
_KEY_MAX = 200
_ANY_NAME = "*"


def job_kind(contract: Contract, queue: str, name: str) -> Job | None:
    """Say what a job of this name in this queue is; the nearest description wins."""
    for key in (f"{queue}:{name}", name, f"{queue}:{_ANY_NAME}", _ANY_NAME):
        if key in contract.jobs:
            return contract.jobs[key]
    return None


def asked(contract: Contract, job: JobView) -> Asked:
    """Read what a job asks for. Raises PayloadError."""
    if job.name == OWN_JOB:
        return _own(job)
    kind = job_kind(contract, job.queue_name, job.name)
    match kind:
        case None:
            return Unnamed()
        case ParkJob():
            return NotOurs()
        case FailJob():
            return NobodysAnyMore()
        case LaunchJob(campaign=path):
            return AskedLaunch(key_of(find(job.data, path), contract.ids.campaign, path))
        case FollowUpJob():
            return AskedOne(_follow_up(contract, kind, job.data))
        case SendJob(mail=None):
            return _send(contract, kind, job.data)
        case SendJob(mail=fields) if fields is not None:
            return AskedWhole(_whole(fields, job))
        case _:
            raise AssertionError("a send job has a mail or not")


def find(data: Any, path: str) -> Any:
    """Follow a path of keys and indexes. Raises PayloadError when it leads nowhere."""
    value = data
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit():
            if int(step[:10]) >= len(value):
                raise PayloadError(path, "is missing")
            value = value[int(step)]
        else:
            raise PayloadError(path, "is missing")
    return value


def job_for(contract: Contract, queue: str, mail: AppMail) -> tuple[str, dict[str, Any]] | None:
    """Name and data of a job of `queue` that asks for this mail, as the app's own jobs do.

    None: no job of the contract can say it, and one in our own form has to.
    """
    for key, job in contract.jobs.items():
        head, _, rest = key.partition(":")
        name = rest if head in contract.queues else key
        if name == _ANY_NAME or job_kind(contract, queue, name) is not job:
            continue
        match job:
            case SendJob(mail=None, campaign=str()) if mail.step == 0:
                data = _send_data(contract, job, mail)
            case FollowUpJob() if mail.step > 0 and _says(job, mail):
                data = _follow_up_data(contract, job, mail)
            case _:
                continue
        if data is not None:
            return name, data
    return None


def campaign_paths(contract: Contract, queue: str) -> dict[str, str]:
    """Give the field at the top of a job's data that is its campaign's, by the names of jobs.

    Jobs that have it deeper, or whose names nobody knows, are left out.
    """
    paths = {}
    for key, job in contract.jobs.items():
        head, _, rest = key.partition(":")
        name = rest if head in contract.queues else key
        if name == _ANY_NAME or job_kind(contract, queue, name) is not job:
            continue
        path = job.campaign if isinstance(job, SendJob | FollowUpJob) else None
        if path is not None and "." not in path:
            paths[name] = path
    return paths


def _says(job: FollowUpJob, mail: AppMail) -> bool:
    if job.step_id is not None:
        return mail.step_id is not None
    return isinstance(job.step, str) or job.step == mail.step


def _own(job: JobView) -> AskedOwn:
    inner = job.data.get(OWN_FIELD) if isinstance(job.data, dict) else None
    if not isinstance(inner, dict):
        raise PayloadError(OWN_FIELD, "is missing")
    name = payload.FOLLOW_UP if "step" in inner else payload.SEND_EMAIL
    return AskedOwn(_parse(name, inner, job))


def _parse(name: str, data: dict[str, Any], job: JobView) -> Request:
    queue, stamp = job.queue_name, job.timestamp
    return payload.parse(name, data, queue=queue, job_id=job.id, timestamp_ms=stamp)


def _follow_up(contract: Contract, job: FollowUpJob, data: Any) -> AppMail:
    campaign = key_of(find(data, job.campaign), contract.ids.campaign, job.campaign)
    recipient = key_of(find(data, job.recipient), contract.ids.recipient, job.recipient)
    if job.step_id is not None:
        step_id = _short_text(find(data, job.step_id), job.step_id)
        return AppMail(campaign, recipient, step_id=step_id)
    step = _step(data, job.step) if isinstance(job.step, str) else job.step
    return AppMail(campaign, recipient, step or 0)


def _step(data: Any, path: str) -> int:
    value = find(data, path)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:10])
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _STEP_MAX:
        raise PayloadError(path, f"must be a number from 1 to {_STEP_MAX}")
    return value


def _send(contract: Contract, job: SendJob, data: Any) -> AskedOne | AskedMany:
    path = job.campaign or ""
    campaign = key_of(find(data, path), contract.ids.campaign, path)
    kind = contract.ids.recipient
    if job.recipients is None:
        path = job.recipient or ""
        return AskedOne(AppMail(campaign, key_of(find(data, path), kind, path)))
    found = find(data, job.recipients)
    if not isinstance(found, list):
        raise PayloadError(job.recipients, "must be a list")
    if len(found) > _RECIPIENTS_MAX:
        raise PayloadError(job.recipients, f"has more than {_RECIPIENTS_MAX} elements")
    keys: dict[str, None] = {}
    for index, element in enumerate(found):
        field = f"{job.recipients}.{index}"
        if job.recipient is not None:
            field = f"{field}.{job.recipient}"
        value = element if job.recipient is None else _within(element, job.recipient, field)
        keys[key_of(value, kind, field)] = None
    mails = tuple(AppMail(campaign, key) for key in keys)
    return AskedMany(mails, job.progress, job.parallel)


def _within(element: Any, path: str, field: str) -> Any:
    try:
        return find(element, path)
    except PayloadError as error:
        raise PayloadError(field, error.problem) from None


def _whole(fields: MailFields, job: JobView) -> InlineRequest:
    given: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for name in MailFields.model_fields:
        path = getattr(fields, name)
        if path is None or name == "key":
            continue
        target = {"sender": "from", "reply_to": "replyTo"}.get(name, name)
        paths[target] = path
        try:
            given[target] = find(job.data, path)
        except PayloadError:
            # Like JavaScript's undefined; what must be there is missed below.
            continue
    if fields.key is not None:
        given["idempotencyKey"] = _short_text(find(job.data, fields.key), fields.key)
    try:
        request = _parse(payload.SEND_EMAIL, given, job)
    except PayloadError as error:
        raise _in_the_app_s_words(error, paths) from None
    if isinstance(request, CampaignRequest):
        raise AssertionError("no recipient's id was given")  # noqa: TRY004 - our own mistake
    return request


def _short_text(value: Any, path: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= _KEY_MAX:
        raise PayloadError(path, f"must be a number or a text of 1 to {_KEY_MAX} characters")
    return value


def _in_the_app_s_words(error: PayloadError, paths: dict[str, str]) -> PayloadError:
    head, dot, rest = error.field.partition(".")
    if head == "recipientId":
        # Nobody asked for a recipient's id: it is `to` that is not there.
        return PayloadError(paths["to"], "is missing")
    return PayloadError(paths.get(head, head) + dot + rest, error.problem)


def _send_data(contract: Contract, job: SendJob, mail: AppMail) -> dict[str, Any] | None:
    recipient: Any = json_of(mail.recipient, contract.ids.recipient)
    path = job.recipient
    if job.recipients is not None:
        element: Any = recipient
        if path is not None:
            element = {}
            if not _put(element, path, recipient):
                return None
        path, recipient = job.recipients, [element]
    return _built((job.campaign, json_of(mail.campaign, contract.ids.campaign)), (path, recipient))


def _follow_up_data(contract: Contract, job: FollowUpJob, mail: AppMail) -> dict[str, Any] | None:
    return _built(
        (job.campaign, json_of(mail.campaign, contract.ids.campaign)),
        (job.recipient, json_of(mail.recipient, contract.ids.recipient)),
        *([(job.step, mail.step)] if isinstance(job.step, str) else []),
        *([(job.step_id, mail.step_id)] if job.step_id is not None else []),
    )


def _built(*pairs: tuple[str | None, Any]) -> dict[str, Any] | None:
    data: dict[str, Any] = {}
    for path, value in pairs:
        if path is None or not _put(data, path, value):
            return None
    return data


def _put(data: dict[str, Any], path: str, value: Any) -> bool:
    """Write a value where a path leads; False when the path leads through a list."""
    *above, last = path.split(".")
    if any(step.isdigit() for step in (*above, last)):
        return False
    place: Any = data
    for step in above:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            return False
    place[last] = value
    return True
