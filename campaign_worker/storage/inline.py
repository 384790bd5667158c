"""Self-contained mails as JSON in their row, and back. The form is ours, not the job's."""

from __future__ import annotations

import base64
import json
from typing import Any

from campaign_worker.delivery.model import Attachment
from campaign_worker.delivery.requests import InlineMail


def inline_to_json(mail: InlineMail) -> str:
    """Write a mail as a JSON object; attachments are base64."""
    return json.dumps(
        {
            "to": mail.to,
            "subject": mail.subject,
            "html": mail.html,
            "text": mail.text,
            "sender": mail.sender,
            "reply_to": mail.reply_to,
            "cc": mail.cc,
            "bcc": mail.bcc,
            "headers": mail.headers,
            "attachments": [
                {
                    "filename": one.filename,
                    "content": base64.b64encode(one.content).decode("ascii"),
                    "content_type": one.content_type,
                }
                for one in mail.attachments
            ],
        },
        ensure_ascii=False,
    )


def inline_from_json(text: str) -> InlineMail:
    """Read what `inline_to_json` wrote."""
    fields: dict[str, Any] = json.loads(text)
    return InlineMail(
        to=tuple(fields["to"]),
        subject=fields["subject"],
        html=fields["html"],
        text=fields["text"],
        sender=fields["sender"],
        reply_to=fields["reply_to"],
        cc=tuple(fields["cc"]),
        bcc=tuple(fields["bcc"]),
        headers=fields["headers"],
        attachments=tuple(
            Attachment(one["filename"], base64.b64decode(one["content"]), one["content_type"])
            for one in fields["attachments"]
        ),
    )
