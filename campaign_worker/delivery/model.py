"""The values that a mail is made of: template, content, envelope, result. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Template:
    """One immutable version of a mail's texts (Jinja2 sources). `id` identifies the version."""

    id: int
    subject: str
    html: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template said for one recipient; `text` is always there (derived when absent)."""

    subject: str
    html: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file by content. `content_type` is a MIME type such as `application/pdf`."""

    filename: str
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Mail:
    """Everything that a message consists of before it is MIME (RFC 5322).

    Addresses are header forms (`Name <a@b>`). `date` and `message_id` are passed in, so that the
    same Mail always gives the same bytes. `headers` are extra ones.
    """

    message_id: str
    date: datetime
    sender: str
    to: tuple[str, ...]
    rendered: Rendered
    cc: tuple[str, ...] = ()
    reply_to: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """SMTP envelope (RFC 5321): bare addresses, domains as A-labels.

    `smtputf8` when a local part needs it (RFC 6531).
    """

    sender: str
    recipients: tuple[str, ...]
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Composed:
    """A mail ready to go: envelope and bytes. The same claim always gives the same bytes.

    `mail` is what the bytes were made of, for transports that carry no MIME.
    """

    envelope: Envelope
    content: bytes
    message_id: str
    mail: Mail | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One recipient that the server refused at RCPT while it accepted others."""

    recipient: str
    code: int
    enhanced: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server answered 250 to the final dot. `reply` is cleaned; `refused` had no part in it."""

    reply: str
    refused: tuple[Refusal, ...] = ()
