"""Campaign mails with and without a tracker: headers for providers, and who may change them."""

from __future__ import annotations

import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from campaign_worker.delivery.claims import CampaignContent, Claimed, InlineContent, Tracking
from campaign_worker.delivery.model import Template
from campaign_worker.delivery.requests import InlineMail
from campaign_worker.errors import PayloadError, RenderError
from campaign_worker.mail.compose import ComposerOptions, MailComposer
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring
from campaign_worker.tracking.urls import TrackingUrls

RING = Keyring([SigningKey("k1", "s" * 32)])
URLS = TrackingUrls("https://t.example.org", RING)
UNSUBSCRIBE = URLS.unsubscribe(7)
USUAL = {
    "List-Unsubscribe": f"<{UNSUBSCRIBE}>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "List-Id": "<campaign-3.example.org>",
    "Feedback-ID": "campaign-3:step-1:example.org:campaign-worker",
    "Auto-Submitted": "auto-generated",
}
CONTENT = CampaignContent(
    template=Template(1, "Hello", '<a href="https://a.example">a</a>', None),
    recipient_email="ann@example.com",
    recipient_name="Ann",
    recipient_data={},
    campaign_id=3,
    campaign_name="Spring",
    recipient_id=5,
    step=1,
    mail_from="News <news@example.org>",
    reply_to=None,
    headers={},
    previous_message_id=None,
    tracking=Tracking(opens=True, clicks=True, text=False),
)


def bytes_of(urls: TrackingUrls | None = URLS, /, **changed: Any) -> bytes:
    content = replace(CONTENT, **changed)
    claimed = Claimed(7, "token", 0, "3.5.1", 1_790_000_000, content, 0.0)
    return MailComposer(ComposerOptions("other@example.net", urls)).compose(claimed).content


def mail_of(urls: TrackingUrls | None = URLS, /, **changed: Any) -> EmailMessage:
    return message_from_bytes(bytes_of(urls, **changed), policy=policy.default)


def extras(mail: EmailMessage) -> dict[str, str]:
    """Give the headers that are not those of every mail."""
    every = {"from", "to", "subject", "date", "message-id", "mime-version", "content-type"}
    return {name: str(value) for name, value in mail.items() if name.lower() not in every}


def test_a_campaign_mail_carries_the_headers_of_bulk_mail() -> None:
    assert extras(mail_of()) == USUAL


def test_the_unsubscribe_url_stands_on_one_line() -> None:
    lines = bytes_of().split(b"\r\n")
    assert f"List-Unsubscribe: <{UNSUBSCRIBE}>".encode() in lines
    assert all(len(line) < 200 for line in lines)


def test_without_a_tracker_a_mail_is_what_its_template_says() -> None:
    mail = mail_of(None)
    assert extras(mail) == {}
    html = mail.get_body(("html",))
    assert html is not None
    assert html.get_content().strip() == '<a href="https://a.example">a</a>'
    assert extras(mail_of(None, headers={"X-A": "1", "List-Id": None})) == {"X-A": "1"}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"list-id": "News <news.example.org>"}, {"List-Id": "News <news.example.org>"}),
        ({"Feedback-Id": None}, {"Feedback-ID": None}),
        ({"AUTO-SUBMITTED": None, "Precedence": "bulk"},
         {"Auto-Submitted": None, "Precedence": "bulk"}),
        ({"List-Unsubscribe": "<mailto:out@example.org>"},
         {"List-Unsubscribe": "<mailto:out@example.org>", "List-Unsubscribe-Post": None}),
        ({"list-unsubscribe": None}, {"List-Unsubscribe": None, "List-Unsubscribe-Post": None}),
        ({"List-Unsubscribe-Post": None}, {"List-Unsubscribe-Post": None}),
        ({"List-Unsubscribe": "<https://own.example/x>",
          "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
         {"List-Unsubscribe": "<https://own.example/x>"}),
    ],
)  # fmt: skip
def test_a_campaigns_own_headers_win(
    own: dict[str, str | None], expected: dict[str, str | None]
) -> None:
    changed = {name: value for name, value in (USUAL | expected).items() if value is not None}
    mail = mail_of(headers=own)
    found = {name.lower(): value for name, value in extras(mail).items()}
    assert found == {name.lower(): value for name, value in changed.items()}


def test_one_click_is_promised_for_https_only() -> None:
    mail = mail_of(TrackingUrls("http://t.example.org", RING))
    assert mail["List-Unsubscribe"].startswith("<http://t.example.org/u/")
    assert mail["List-Unsubscribe-Post"] is None


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("a@[127.0.0.1]", "127.0.0.1"),
        ("a@[IPv6:::1]", "IPv6---1"),
        ("a@ü.example", "xn--tda.example"),
    ],
)
def test_a_senders_domain_of_any_kind_fits_the_headers(sender: str, domain: str) -> None:
    mail = mail_of(mail_from=sender)
    assert mail["List-Id"] == f"<campaign-3.{domain}>"
    assert mail["Feedback-ID"] == f"campaign-3:step-1:{domain}:campaign-worker"


def test_a_message_id_names_the_mail_and_the_domain_of_the_campaigns_sender() -> None:
    assert mail_of()["Message-ID"] == "<3.5.1.campaign-worker@example.org>"
    other = mail_of(None, mail_from="b@other.example")
    assert other["Message-ID"] == "<3.5.1.campaign-worker@other.example>"
    with pytest.raises(PayloadError):
        bytes_of(headers={"Message-ID": "<1@example.org>"})


def test_identifiers_of_feedback_differ_from_field_to_field() -> None:
    fields = str(mail_of()["Feedback-ID"]).split(":")
    assert len(set(fields)) == len(fields) == 4
    assert re.fullmatch(r".{5,15}", fields[-1])


def test_opens_and_clicks_off_leaves_the_way_out() -> None:
    off = Tracking(opens=False, clicks=False, text=False)
    template = Template(2, "s", '<a href="https://a.example">{{ unsubscribe_url }}</a>', None)
    mail = mail_of(template=template, tracking=off)
    html = mail.get_body(("html",))
    assert html is not None
    assert html.get_content().strip() == f'<a href="https://a.example">{UNSUBSCRIBE}</a>'
    assert extras(mail) == USUAL


def test_a_template_with_unsubscribe_url_needs_a_tracker() -> None:
    template = Template(2, "s", None, "Out: {{ unsubscribe_url }}")
    with pytest.raises(RenderError, match=r"unsubscribe_url.*TRACKING_BASE_URL"):
        bytes_of(None, template=template)
    assert f"Out: {UNSUBSCRIBE}".encode() in bytes_of(URLS, template=template)


def test_an_app_with_an_unsubscribe_page_of_its_own_keeps_it() -> None:
    template = Template(2, "s", None, "Out: {{ unsubscribe_url }}")
    data = {"unsubscribe_url": "https://own.example/out"}
    for tracking in (URLS, None):
        assert b"Out: https://own.example/out" in bytes_of(
            tracking, template=template, recipient_data=data
        )


def test_a_template_may_ask_whether_there_is_a_tracker() -> None:
    source = "{% if unsubscribe_url %}Out: {{ unsubscribe_url }}{% else %}Reply to stop{% endif %}"
    template = Template(2, "s", None, source)
    assert b"Reply to stop" in bytes_of(None, template=template)
    assert UNSUBSCRIBE.encode() in bytes_of(URLS, template=template)


def test_the_same_claim_gives_the_same_bytes() -> None:
    assert bytes_of() == bytes_of()
    assert bytes_of(None) == bytes_of(None)


def test_a_campaigns_header_cannot_smuggle_another() -> None:
    with pytest.raises(PayloadError):
        bytes_of(headers={"List-Unsubscribe": "<https://a.example>\r\nBcc: x@example.org"})


def test_a_self_contained_mail_is_as_its_job_gives_it() -> None:
    html = '<body><a href="https://a.example">a</a></body>'
    inline = InlineMail(
        to=("a@example.com",), subject="s", html=html, text="t", sender=None, reply_to=None,
        cc=(), bcc=(), headers={"X-A": "1"}, attachments=(),
    )  # fmt: skip
    content = InlineContent(inline, campaign_id=3, mail_from=None, suppressed=frozenset())
    claimed = Claimed(7, "token", 0, "key", 1_790_000_000, content, 0.0)
    options = [ComposerOptions("other@example.net", tracking) for tracking in (URLS, None)]
    tracked, plain = (MailComposer(one).compose(claimed) for one in options)
    assert tracked == plain
    assert plain.mail is not None
    assert plain.mail.rendered.html == html
    assert plain.mail.headers == {"X-A": "1"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ann\r", "Ann"), ("Ann\tB.\r\n", "Ann B."), ("x\u2028y\x00", "x y"), ("\t", ""),
        ("Ann\r\nBcc: x@y.example", "Ann Bcc: x@y.example"), ("A" * 600, "A" * 500),
    ],
)  # fmt: skip
def test_a_name_of_any_text_keeps_no_mail_back(name: str, shown: str) -> None:
    mail = mail_of(recipient_name=name)
    (to,) = mail["To"].addresses
    assert (to.display_name, to.addr_spec) == (shown, "ann@example.com")
    assert mail["Bcc"] is None


@pytest.mark.parametrize("own", ["In-Reply-To", "in-reply-to"])
def test_a_follow_up_is_in_the_thread_unless_the_campaign_names_another(own: str) -> None:
    mail = mail_of(previous_message_id="<before@example.org>")
    assert (mail["In-Reply-To"], mail["References"]) == ("<before@example.org>",) * 2
    mail = mail_of(previous_message_id="<before@example.org>", headers={own: "<own@example.org>"})
    assert mail.get_all("In-Reply-To") == ["<own@example.org>"]
