"""A composed mail as a request to Resend: its idempotency key, and the body in JSON.

Pure and deterministic. Both travel as one value, so that a repetition is the same to the byte.
Fields: https://resend.com/docs/api-reference/emails/send-email
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from campaign_worker.delivery.model import Attachment, Composed, Envelope, Mail
from campaign_worker.errors import PayloadError
from campaign_worker.mail.address import parse, parse_list

MAX_KEY = 256


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """`key` is the value of Idempotency-Key, `body` the JSON of POST /emails in UTF-8."""

    key: str
    body: bytes

    @classmethod
    def of(cls, mail: Composed, key: str) -> ResendRequest:
        """Write the request of a mail. Raises errors.PayloadError and AddressError."""
        if mail.mail is None:
            raise PayloadError("mail", "a provider's API takes no bare MIME")
        # JSON can carry lone surrogates, UTF-8 cannot.
        text = json.dumps(_fields(mail.mail, mail.envelope), ensure_ascii=False)
        return cls(_checked(key), text.encode("utf-8", "replace"))

    @classmethod
    def read(cls, content: bytes) -> ResendRequest:
        """Read what `content` gave. Raises ValueError for anything else."""
        key, line_end, body = content.partition(b"\n")
        if not line_end:
            raise ValueError("not a request")
        return cls(_checked(key.decode("ascii")), body)

    @property
    def content(self) -> bytes:
        """Both as one value: the key, a line end, the body."""
        return self.key.encode("ascii") + b"\n" + self.body


def _checked(key: str) -> str:
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise ValueError(f"an idempotency key is 1 to {MAX_KEY} printable ASCII characters")
    return key


def _fields(mail: Mail, envelope: Envelope) -> dict[str, Any]:
    to, cc = _mailboxes(mail.to), _mailboxes(mail.cc)
    if not to:
        raise PayloadError("to", "Resend needs an address in to; cc and bcc alone will not do")
    named = {parse(one).envelope for one in (*to, *cc)}
    bcc = [one for one in envelope.recipients if one not in named]
    reply_to = [] if mail.reply_to is None else _mailboxes((mail.reply_to,))
    # Resend's own server may write another Message-ID over ours; the row keeps ours.
    headers = {"Message-ID": mail.message_id, **mail.headers}
    fields: dict[str, Any] = {
        "from": parse(mail.sender).header,
        "to": to,
        "cc": cc,
        "bcc": bcc,
        "reply_to": reply_to,
        "subject": mail.rendered.subject,
        "html": mail.rendered.html,
        "text": mail.rendered.text,
        "headers": headers,
        "attachments": [_attachment(one) for one in mail.attachments],
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _mailboxes(texts: tuple[str, ...]) -> list[str]:
    return [address.header for text in texts for address in parse_list(text)]


def _attachment(item: Attachment) -> dict[str, str]:
    return {
        "filename": item.filename,
        "content": base64.b64encode(item.content).decode("ascii"),
        "content_type": item.content_type,
    }
