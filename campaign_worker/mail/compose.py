"""A claim's content into envelope and bytes: renders, addresses, identifies. Pure; sends nothing.

The same claim always gives the same bytes: Message-ID and Date come from the row.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

from campaign_worker.delivery.claims import CampaignContent, Claimed, InlineContent, Unreadable
from campaign_worker.delivery.model import Composed, Envelope, Mail, Rendered
from campaign_worker.delivery.requests import InlineMail
from campaign_worker.errors import AddressError, PayloadError, RenderError, SettingsError
from campaign_worker.mail import text
from campaign_worker.mail.address import Address, parse, parse_list, tidy_name
from campaign_worker.mail.compose_headers import bulk_headers, merged
from campaign_worker.mail.mime import build, needs_smtputf8
from campaign_worker.mail.template import Templates
from campaign_worker.mail.template_bounds import Null
from campaign_worker.mail.template_links import Tracked
from campaign_worker.tracking.urls import TrackingUrls

_NO_UNSUBSCRIBE_URL = "variable 'unsubscribe_url' needs the setting TRACKING_BASE_URL"
_SENDER = "write it as Name <mail@example.org> or mail@example.org"
_PLAIN_KEY = re.compile(r"[0-9A-Za-z.]{1,60}")


@dataclass(frozen=True, slots=True)
class ComposerOptions:
    """`mail_from` serves campaigns and jobs that name no sender.

    `tracking` makes the links of campaign mails; None where TRACKING_BASE_URL is not set, and then
    a mail is what its template says.
    """

    mail_from: str
    tracking: TrackingUrls | None = None


class MailComposer:
    """Fulfils delivery's Composer. SettingsError for a MAIL_FROM that no mail could carry."""

    def __init__(self, options: ComposerOptions) -> None:
        try:
            parse(options.mail_from)
        except AddressError as error:
            # Otherwise each mail would find out, and fail for good.
            raise SettingsError("MAIL_FROM", f"is not a sender: {error}", _SENDER) from None
        self._options = options
        self._templates = Templates()

    def checked(self, mail: InlineMail) -> InlineMail:
        """Return a self-contained mail with one address per entry, sure to compose.

        Raises PayloadError naming the field at fault.
        """
        one = {
            "from": _separate("from", () if mail.sender is None else (mail.sender,)),
            "replyTo": _separate("replyTo", () if mail.reply_to is None else (mail.reply_to,)),
        }
        for field, addresses in one.items():
            if len(addresses) > 1:
                raise PayloadError(field, f"one address is expected, {len(addresses)} are given")
        to, cc, bcc = (_separate(f, getattr(mail, f)) for f in ("to", "cc", "bcc"))
        checked = replace(mail, to=to, cc=cc, bcc=bcc)
        sender = mail.sender or self._options.mail_from
        build(_inline_mail(checked, sender, "<check@check.invalid>", datetime.now(UTC)))
        return checked

    def compose(self, claimed: Claimed) -> Composed:
        """Render and build. Raises RenderError, AddressError, PayloadError."""
        date = datetime.fromtimestamp(int(claimed.created_at_epoch), UTC)
        match claimed.content:
            case CampaignContent() as content:
                mail = self._campaign_mail(content, claimed, date)
                recipients = _mailboxes(mail.to)
            case InlineContent() as content:
                kept = _without_suppressed(content)
                sender = kept.sender or content.mail_from or self._options.mail_from
                message_id = _message_id(claimed.message_key, sender)
                mail = _inline_mail(kept, sender, message_id, date)
                recipients = _mailboxes((*kept.to, *kept.cc, *kept.bcc))
            case Unreadable(problem):
                raise RenderError("data", problem)
            case _:
                assert_never(claimed.content)
        return Composed(_envelope(mail, recipients), build(mail), mail.message_id, mail)

    def _campaign_mail(self, content: CampaignContent, claimed: Claimed, date: datetime) -> Mail:
        sender = content.mail_from or self._options.mail_from
        to = parse(content.recipient_email)
        if content.recipient_name:
            to = Address(tidy_name(content.recipient_name), to.local, to.domain_ascii)
        urls = self._options.tracking
        unsubscribe_url = None if urls is None else urls.unsubscribe(claimed.id)
        usual = {} if unsubscribe_url is None else _usual_headers(content, sender, unsubscribe_url)
        if content.previous_message_id is not None:
            # A follow-up belongs to the thread of the mail it follows (RFC 5322, 3.6.4).
            usual["In-Reply-To"] = content.previous_message_id
            usual["References"] = content.previous_message_id
        headers = merged(content.headers, usual)
        return Mail(
            message_id=_message_id(claimed.message_key, sender),
            date=date,
            sender=sender,
            to=(to.header,),
            rendered=self._rendered(content, claimed.id, unsubscribe_url),
            reply_to=content.reply_to,
            headers=headers,
        )

    def _rendered(
        self, content: CampaignContent, message_id: int, unsubscribe_url: str | None
    ) -> Rendered:
        context = _context(content, unsubscribe_url)
        urls, wanted = self._options.tracking, content.tracking
        if urls is None or not (wanted.opens or wanted.clicks):
            return self._templates.render(content.template, context)
        tracked = Tracked(wanted.opens, wanted.clicks, wanted.text)
        compiled = self._templates.compiled(content.template, tracked)
        return compiled.render(context, compiled.stamps(urls, message_id, wanted.link_ids))


def normalize(address: str) -> str:
    """Give the form that suppressions are kept in; text that is no address is lower-cased."""
    try:
        return parse(address).normalized
    except AddressError:
        return address.lower()


def _usual_headers(content: CampaignContent, sender: str, unsubscribe_url: str) -> dict[str, str]:
    return bulk_headers(
        campaign_id=content.campaign_id,
        step=content.step,
        domain=parse(sender).domain_ascii,
        unsubscribe_url=unsubscribe_url,
    )


def _context(content: CampaignContent, unsubscribe_url: str | None) -> dict[str, object]:
    """Give what templates see: the recipient's data by name, and `recipient` and `campaign`.

    An app whose data hold an `unsubscribe_url` has a page of its own.
    """
    own = {
        "recipient": {
            "id": content.recipient_id,
            "email": content.recipient_email,
            "name": content.recipient_name,
        },
        "campaign": {"id": content.campaign_id, "name": content.campaign_name},
        "step": content.step,
    }
    usual: dict[str, object] = {
        "email": content.recipient_email,
        "unsubscribe_url": unsubscribe_url or Null(hint=_NO_UNSUBSCRIBE_URL),
    }
    if content.recipient_name is not None:
        usual["name"] = content.recipient_name
    return {**usual, **content.recipient_data, **own}


def _inline_mail(mail: InlineMail, sender: str, message_id: str, date: datetime) -> Mail:
    plain = mail.text if mail.text is not None else text.from_html(mail.html or "")
    return Mail(
        message_id=message_id,
        date=date,
        sender=sender,
        to=mail.to,
        cc=mail.cc,
        rendered=Rendered(mail.subject, mail.html, plain),
        reply_to=mail.reply_to,
        headers=mail.headers,
        attachments=mail.attachments,
    )


def _message_id(key: str, sender: str) -> str:
    """Derive the Message-ID of (campaign, recipient, step), or of a self-contained mail's key."""
    left = key if _PLAIN_KEY.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest()[:40]
    return f"<{left}.campaign-worker@{parse(sender).domain_ascii}>"


def _separate(field: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(address.header for address in _mailboxes(texts))
    except AddressError as error:
        raise PayloadError(field, str(error)) from error


def _mailboxes(texts: tuple[str, ...]) -> list[Address]:
    return [address for text in texts for address in parse_list(text)]


def _without_suppressed(content: InlineContent) -> InlineMail:
    if not content.suppressed:
        return content.mail

    def kept(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            address.header
            for address in _mailboxes(texts)
            if address.normalized not in content.suppressed
        )

    mail = content.mail
    return replace(mail, to=kept(mail.to), cc=kept(mail.cc), bcc=kept(mail.bcc))


def _envelope(mail: Mail, recipients: list[Address]) -> Envelope:
    sender = parse(mail.sender)
    addresses = tuple(dict.fromkeys(address.envelope for address in recipients))
    smtputf8 = needs_smtputf8(mail) or any(
        address.needs_smtputf8 for address in (sender, *recipients)
    )
    return Envelope(sender.envelope, addresses, smtputf8)
