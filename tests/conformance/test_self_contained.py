"""Mails that a Node app puts into the job itself."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest

from campaign_worker.embedded.smtp_server import ReceivedMail, SmtpSink
from tests.conformance.conftest import StartWorker
from tests.conformance.harness import App, Post, buffer, job

pytestmark = pytest.mark.node

PICTURE = bytes(range(256)) * 4
MINIMAL: dict[str, Any] = {"to": "ann@example.net", "subject": "S", "text": "T"}
RETRIED: dict[str, Any] = {"attempts": 3, "backoff": {"type": "fixed", "delay": 50}}

BAD: dict[str, tuple[Any, str]] = {
    "no-object": ("ann@example.net", "data"),
    "list": ([MINIMAL], "data"),
    "no-recipient": ({"subject": "S", "text": "T"}, "recipientId"),
    "nobody": ({**MINIMAL, "to": []}, "to"),
    "not-an-address": ({**MINIMAL, "to": "ann at example"}, "to"),
    "second-is-none": ({**MINIMAL, "to": ["ann@example.net", "bob"]}, "to"),
    "header-injection": ({**MINIMAL, "to": "ann@example.net\r\nBcc: x@example.net"}, "to"),
    "injected-subject": ({**MINIMAL, "subject": "S\r\nBcc: x@example.net"}, "subject"),
    "no-subject": ({"to": "ann@example.net", "text": "T"}, "subject"),
    "no-body": ({"to": "ann@example.net", "subject": "S"}, "html"),
    "body-is-a-number": ({**MINIMAL, "html": 5}, "html"),
    "bad-cc": ({**MINIMAL, "cc": ["<>"]}, "cc"),
    "bad-bcc": ({**MINIMAL, "bcc": "@"}, "bcc"),
    "bad-from": ({**MINIMAL, "from": "nobody"}, "from"),
    "bad-reply-to": ({**MINIMAL, "replyTo": ["a@example.net", "b@example.net"]}, "replyTo"),
    "bad-header-name": ({**MINIMAL, "headers": {"X Y": "1"}}, "headers"),
    "injected-header": ({**MINIMAL, "headers": {"X-A": "1\r\nBcc: x@example.net"}}, "headers"),
    "own-message-id": ({**MINIMAL, "headers": {"Message-ID": "<x@y>"}}, "headers"),
    "attachment-by-path": (
        {**MINIMAL, "attachments": [{"filename": "p", "path": "/etc/passwd"}]},
        "attachments.0",
    ),
    "attachment-not-base64": (
        {**MINIMAL, "attachments": [{"filename": "p", "content": "%", "encoding": "base64"}]},
        "attachments.0.content",
    ),
    "bad-campaign": ({**MINIMAL, "campaignId": "spring"}, "campaignId"),
    "unknown-campaign": ({**MINIMAL, "campaignId": 4711}, "campaignId"),
    "nul": ({**MINIMAL, "text": "a\0b"}, "text"),
    "empty-key": ({**MINIMAL, "idempotencyKey": ""}, "idempotencyKey"),
    "campaign-mail-without-campaign": ({"recipientId": 1}, "campaignId"),
    "wrong-recipient-id": ({"campaignId": 1, "recipientId": -1}, "recipientId"),
}


def message_of(mail: ReceivedMail) -> EmailMessage:
    message = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    assert part is not None
    return str(part.get_content()).rstrip("\r\n")


def by_subject(sink: SmtpSink) -> dict[str, tuple[ReceivedMail, EmailMessage]]:
    messages = [(mail, message_of(mail)) for mail in sink.mails]
    found = {str(message["Subject"]): (mail, message) for mail, message in messages}
    assert len(found) == len(messages), [str(message["Subject"]) for _, message in messages]
    return found


FULL = {
    "to": ["Ann Ä <ann@example.net>", "bob@example.net"],
    "subject": "Grüße 🎉",
    "html": "<p>Good <b>day</b></p>",
    "from": "Shop <shop@example.org>",
    "replyTo": "Help <help@example.org>",
    "cc": "Cy <cy@example.net>, di@example.net",
    "bcc": ["eve@example.net"],
    "headers": {"X-Order": "4711", "List-Id": "orders.example.org"},
    "attachments": [
        {"filename": "picture.png", "content": buffer(PICTURE), "contentType": "image/png"},
        {"filename": "größe.txt", "content": "zwölf"},
        {"filename": "b64.bin", "content": "AAEC", "encoding": "base64"},
    ],
}
SNAKE = {
    "to": {"name": "Ann, Q.", "address": "ann@example.net"},
    "subject": "snake",
    "html": "<p>H</p>",
    "text": "own text",
    "reply_to": "help@example.org",
    "idempotency_key": "snake-1",
    "attachments": [{"filename": "a.pdf", "content": buffer(b"%PDF"), "content_type": "x/pdf"}],
}


async def test_a_self_contained_mail_arrives_as_the_app_wrote_it(
    app: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    campaign, _ = await post.campaign(["r@example.net"])
    jobs = [
        job(FULL),
        job(SNAKE),
        job({**MINIMAL, "subject": "minimal"}),
        job({**MINIMAL, "subject": "in campaign", "campaignId": campaign}),
        job({**MINIMAL, "subject": "as text", "campaign_id": str(campaign)}),
    ]
    async with our_worker():
        await app.add(*jobs)
        await app.settled(completed=len(jobs))
    mails = by_subject(smtp_sink)
    assert set(mails) == {"Grüße 🎉", "snake", "minimal", "in campaign", "as text"}
    _check_full(*mails["Grüße 🎉"])
    _check_snake(*mails["snake"])
    mail, minimal = mails["minimal"]
    assert mail.sender == "news@example.org"
    assert str(minimal["From"]) == "News <news@example.org>"
    assert body(minimal, "plain") == "T"
    rows = await post.rows(
        "SELECT campaign_id, count(*) FROM campaign_worker.messages"
        " WHERE state = 'sent' GROUP BY 1 ORDER BY 1 NULLS FIRST"
    )
    assert rows == [(None, 3), (campaign, 2)]
    assert (await post.counts(campaign))["sent_count"] == 2
    done = await app.jobs("completed")
    assert {one["returnvalue"]["messageId"] for one in done} == {
        mail.message_id for mail in smtp_sink.mails
    }


def _check_full(mail: ReceivedMail, message: EmailMessage) -> None:
    assert mail.sender == "shop@example.org"
    everybody = {f"{name}@example.net" for name in ("ann", "bob", "cy", "di", "eve")}
    assert set(mail.recipients) == everybody
    assert str(message["From"]) == "Shop <shop@example.org>"
    assert str(message["To"]) == "Ann Ä <ann@example.net>, bob@example.net"
    assert str(message["Cc"]) == "Cy <cy@example.net>, di@example.net"
    assert str(message["Reply-To"]) == "Help <help@example.org>"
    assert (message["Bcc"], b"eve@" in mail.content) == (None, False)
    assert (message["X-Order"], message["List-Id"]) == ("4711", "orders.example.org")
    assert body(message, "html") == "<p>Good <b>day</b></p>"
    assert body(message, "plain") == "Good day"
    attached = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in message.iter_attachments()
    ]
    assert attached == [
        ("picture.png", "image/png", PICTURE),
        ("größe.txt", "application/octet-stream", "zwölf".encode()),
        ("b64.bin", "application/octet-stream", b"\0\1\2"),
    ]


def _check_snake(mail: ReceivedMail, message: EmailMessage) -> None:
    assert mail.recipients == ("ann@example.net",)
    assert str(message["To"]) == '"Ann, Q." <ann@example.net>'
    assert str(message["Reply-To"]) == "help@example.org"
    assert (body(message, "plain"), body(message, "html")) == ("own text", "<p>H</p>")
    (attached,) = message.iter_attachments()
    assert (attached.get_content_type(), attached.get_payload(decode=True)) == ("x/pdf", b"%PDF")


async def test_two_jobs_of_one_idempotency_key_are_one_mail(
    app6: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    keyed = {**MINIMAL, "idempotencyKey": "order-1"}
    # Who finds the mail in another job's hands comes back when that job's lease would be over.
    async with our_worker(LEASE_SECONDS="2", SEND_TIMEOUT="1"):
        together = await app6.add(job(keyed), job(keyed))
        await app6.settled(completed=2)
        later = await app6.add(job({**keyed, "subject": "another text"}))
        await app6.settled(completed=3)
    assert len(smtp_sink.mails) == 1
    assert await post.states() == {"sent": 1}
    sent = {"outcome": "sent", "messageId": smtp_sink.mails[0].message_id}
    for job_id in together + later:
        assert (await app6.job(job_id))["returnvalue"] == sent


async def test_a_payload_that_does_not_fit_fails_at_once_and_names_the_field(
    app: App, our_worker: StartWorker, post: Post, smtp_sink: SmtpSink
) -> None:
    await app.call("watch")
    jobs = [job(data, jobId=f"bad-{name}", **RETRIED) for name, (data, _) in BAD.items()]
    ids = {"campaignId": 1, "recipientId": 1}
    follow_up = job(ids, name="follow-up", jobId="bad-step", **RETRIED)
    async with our_worker():
        await app.add(*jobs, follow_up)
        await app.settled(failed=len(jobs) + 1)
    fields = {name: field for name, (_, field) in BAD.items()} | {"step": "step"}
    histories = await app.histories(*(f"bad-{name}" for name in fields), until="failed")
    wrong = {}
    for name, field in fields.items():
        failed = await app.job(f"bad-{name}")
        if not failed["failedReason"].startswith(field):
            wrong[name] = failed["failedReason"]
        assert failed["attemptsMade"] == (0 if app.node.major == 4 else 1)
        assert failed["attemptsStarted"] in {1, None}
        assert histories[f"bad-{name}"] == ["added", "waiting", "active", "failed"]
    assert wrong == {}
    assert smtp_sink.mails == []
    assert set(await post.states()) <= {"failed"}
