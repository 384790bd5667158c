"""A job's name and data into a request. Foreign data: every fault is an error that names the field.

camelCase and snake_case both serve. Pure: touches nothing but its arguments.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from campaign_worker.delivery.model import Attachment
from campaign_worker.delivery.requests import CampaignRequest, InlineMail, InlineRequest, Request
from campaign_worker.errors import PayloadError

SEND_EMAIL = "send-email"
FOLLOW_UP = "follow-up"
KNOWN_JOBS = (SEND_EMAIL, FOLLOW_UP)
CAMPAIGN_FIELDS = ("campaignId", "campaign_id")

_MAY_BE_EMPTY = frozenset({"from", "replyTo", "reply_to", "cc", "bcc"})

_BIGINT_MAX = 2**63 - 1
_RECIPIENTS_MAX = 100
_HEADERS_MAX = 100
_ATTACHMENTS_MAX = 50
_ATTACHMENTS_BYTES_MAX = 25 * 1024 * 1024
_TEXT_MAX = 5 * 1024 * 1024
_SUBJECT_MAX = 2000
_ADDRESS_MAX = 1000
_DEPTH_MAX = 50
_KEY_KEPT = 200
_STEP_SHOWN = 60
_BROKEN = "holds a NUL or a broken character"

_Model = TypeVar("_Model", bound=BaseModel)


def parse(name: str, data: Any, *, queue: str, job_id: str, timestamp_ms: int) -> Request:
    """Read what a job of a known name asks for.

    A self-contained mail without `idempotencyKey` is known by queue, job id and job timestamp:
    after a FLUSHALL ids begin at 1 again, and the timestamp tells the two apart.
    Raises PayloadError.
    """
    if not isinstance(data, dict):
        raise PayloadError("data", "must be an object")
    _refuse_nul(data)
    if name == FOLLOW_UP:
        follow_up = _validated(_FollowUp, data)
        return CampaignRequest(follow_up.campaign_id, follow_up.recipient_id, follow_up.step)
    if "recipientId" in data or "recipient_id" in data:
        first = _validated(_CampaignMail, data)
        return CampaignRequest(first.campaign_id, first.recipient_id)
    if "to" not in data:
        raise PayloadError("recipientId", "is missing (or `to`, for a self-contained mail)")
    given = {field: value for field, value in data.items() if not _absent(field, value)}
    inline = _validated(_Inline, given)
    default_key = f"{queue}/{job_id}/{timestamp_ms}"
    key = inline.idempotency_key or default_key
    return InlineRequest(_short_key(key), inline.campaign_id, _inline_mail(inline))


def _absent(field: str, value: Any) -> bool:
    """Whether a Node app left it out: JSON has no `undefined`, and nodemailer ignores `cc: ""`."""
    return value is None or (
        field in _MAY_BE_EMPTY and isinstance(value, str) and not value.strip()
    )


def _int_of_digits(value: Any) -> Any:
    # Node apps carry bigints as strings; true is an int in Python and no id anywhere.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports ValueError only
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value


def _list_of_one(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _address_text(value: Any) -> Any:
    # nodemailer also takes {name, address}.
    if isinstance(value, dict):
        address, name = value.get("address"), value.get("name")
        if not isinstance(address, str):
            raise ValueError("an address object needs `address`")  # noqa: TRY004 - as above
        if name is not None and not isinstance(name, str):
            raise ValueError("`name` must be a text")
        return f'"{_quoted(name)}" <{address}>' if name else address
    return value


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


_Id = Annotated[int, BeforeValidator(_int_of_digits), Field(ge=1, le=_BIGINT_MAX)]
_Address = Annotated[
    str, BeforeValidator(_address_text), Field(min_length=1, max_length=_ADDRESS_MAX)
]
_Addresses = Annotated[
    list[_Address], BeforeValidator(_list_of_one), Field(max_length=_RECIPIENTS_MAX)
]


class _Payload(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class _CampaignMail(_Payload):
    campaign_id: _Id
    recipient_id: _Id


class _FollowUp(_CampaignMail):
    step: Annotated[int, BeforeValidator(_int_of_digits), Field(ge=1, le=10_000)]


class _AttachmentPayload(_Payload):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    filename: Annotated[str, Field(min_length=1, max_length=255)]
    content: str | dict[str, Any]
    encoding: str = "utf-8"
    content_type: Annotated[str, Field(max_length=255)] = "application/octet-stream"


class _Inline(_Payload):
    to: Annotated[_Addresses, Field(min_length=1)]
    subject: Annotated[str, Field(max_length=_SUBJECT_MAX)]
    html: Annotated[str, Field(max_length=_TEXT_MAX)] | None = None
    text: Annotated[str, Field(max_length=_TEXT_MAX)] | None = None
    sender: _Address | None = Field(None, validation_alias=AliasChoices("from", "from_"))
    reply_to: _Address | None = None
    cc: _Addresses = []
    bcc: _Addresses = []
    headers: Annotated[dict[str, str], Field(max_length=_HEADERS_MAX)] = {}
    attachments: Annotated[list[_AttachmentPayload], Field(max_length=_ATTACHMENTS_MAX)] = []
    campaign_id: _Id | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


def _validated(model: type[_Model], data: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        # What may not be there (`path` of an attachment) says more than what is missing without it.
        first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
        raise PayloadError(
            _named(first["loc"]), first["msg"].removeprefix("Value error, ")
        ) from None


def _inline_mail(inline: _Inline) -> InlineMail:
    if inline.html is None and inline.text is None:
        raise PayloadError("html", "html or text must be given")
    attachments = tuple(_attachment(index, one) for index, one in enumerate(inline.attachments))
    if sum(len(one.content) for one in attachments) > _ATTACHMENTS_BYTES_MAX:
        raise PayloadError("attachments", f"more than {_ATTACHMENTS_BYTES_MAX} bytes in all")
    return InlineMail(
        to=tuple(inline.to),
        subject=inline.subject,
        html=inline.html,
        text=inline.text,
        sender=inline.sender,
        reply_to=inline.reply_to,
        cc=tuple(inline.cc),
        bcc=tuple(inline.bcc),
        headers=inline.headers,
        attachments=attachments,
    )


def _attachment(index: int, given: _AttachmentPayload) -> Attachment:
    field = f"attachments.{index}.content"
    if isinstance(given.content, dict):
        content = _buffer(field, given.content)
    elif given.encoding == "base64":
        try:
            # Many encoders break the lines, as mails do.
            content = base64.b64decode("".join(given.content.split()), validate=True)
        except ValueError as error:
            raise PayloadError(field, "is not base64") from error
    elif given.encoding in ("utf-8", "utf8"):
        content = given.content.encode()
    else:
        raise PayloadError(f"attachments.{index}.encoding", "must be utf-8 or base64")
    return Attachment(given.filename, content, given.content_type)


def _buffer(field: str, given: dict[str, Any]) -> bytes:
    """Read a Node Buffer as JSON.stringify writes it: {type: 'Buffer', data: [bytes]}."""
    numbers = given.get("data")
    if given.get("type") != "Buffer" or not isinstance(numbers, list):
        raise PayloadError(field, "must be a text or a Buffer")
    try:
        return bytes(numbers)
    except (TypeError, ValueError) as error:
        raise PayloadError(field, "holds something that is no byte") from error


def _short_key(key: str) -> str:
    """Keep a long key as its digest, so that an index entry always fits.

    A digest is its own short key: the reconciler makes jobs of what the row kept.
    """
    if len(key) <= _KEY_KEPT:
        return key
    return "sha256-" + hashlib.sha256(key.encode()).hexdigest()


def _refuse_nul(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """Refuse NUL and lone surrogates anywhere: neither Postgres nor a mail can hold them."""
    if len(path) > _DEPTH_MAX:
        raise PayloadError("data", f"is nested deeper than {_DEPTH_MAX} levels")
    if isinstance(value, str) and _is_broken(value):
        raise PayloadError(_named(path), _BROKEN)
    if isinstance(value, dict):
        for key, inner in value.items():
            if _is_broken(key):
                raise PayloadError(f"{_named(path)} (a key)", _BROKEN)
            _refuse_nul(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            # A Buffer comes as a list of millions of numbers.
            if not isinstance(inner, int):
                _refuse_nul(inner, (*path, index))


def _is_broken(text: str) -> bool:
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _named(path: Sequence[str | int]) -> str:
    """Name a field by its path; what the app calls its keys is not repeated without end."""
    return ".".join(str(step)[:_STEP_SHOWN] or "''" for step in path) or "data"
