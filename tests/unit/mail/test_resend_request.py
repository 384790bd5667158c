"""Requests to Resend, its answers, and the URL that names its API and hides its key."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Composed, Envelope, Mail, Rendered
from campaign_worker.errors import HttpLost, HttpRefused, PayloadError, SettingsError
from campaign_worker.mail.resend_answer import accepted, refused
from campaign_worker.mail.resend_request import ResendRequest
from campaign_worker.mail.resend_url import is_resend, parse
from campaign_worker.settings import urls
from campaign_worker.settings.kinds import Wrong


def composed(**more: Any) -> Composed:
    given: dict[str, Any] = {"to": ("ada@example.com",), "subject": "S", "text": "T"} | more
    rendered = Rendered(given.pop("subject"), given.pop("html", None), given.pop("text"))
    recipients = given.pop("recipients", ("ada@example.com",))
    mail = Mail(
        message_id="<1@example.org>",
        date=datetime(2026, 1, 1, tzinfo=UTC),
        sender="news@example.org",
        rendered=rendered,
        **given,
    )
    return Composed(Envelope("news@example.org", recipients), b"", mail.message_id, mail)


def test_what_a_mail_does_not_have_is_left_out() -> None:
    assert json.loads(ResendRequest.of(composed(), "k").body) == {
        "from": "news@example.org",
        "to": ["ada@example.com"],
        "subject": "S",
        "text": "T",
        "headers": {"Message-ID": "<1@example.org>"},
    }


def test_an_international_domain_goes_as_its_a_label_and_is_no_bcc() -> None:
    mail = composed(to=("Ada <ada@bücher.example>",), recipients=("ada@xn--bcher-kva.example",))
    fields = json.loads(ResendRequest.of(mail, "k").body)
    assert fields["to"] == ["Ada <ada@xn--bcher-kva.example>"]
    assert "bcc" not in fields


def test_a_mail_to_bcc_alone_is_refused_by_its_field() -> None:
    with pytest.raises(PayloadError) as caught:
        ResendRequest.of(composed(to=()), "k")
    assert caught.value.field == "to"


@given(st.text(), st.text(), st.none() | st.text())
def test_any_text_makes_the_same_bytes_each_time_and_is_read_again(
    subject: str, text: str, html: str | None
) -> None:
    mail = composed(subject=subject, text=text, html=html)
    request = ResendRequest.of(mail, "key-1")
    assert ResendRequest.of(mail, "key-1").content == request.content
    assert ResendRequest.read(request.content) == request
    fields = json.loads(request.body)
    assert fields["subject"] == subject.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("key", ["", "x" * 257, "schlüssel", "a\nb", "a\r"])
def test_no_key_that_a_header_could_not_carry(key: str) -> None:
    with pytest.raises(ValueError, match="idempotency key"):
        ResendRequest.of(composed(), key)


def test_bytes_that_are_no_request_are_not_read() -> None:
    with pytest.raises(ValueError, match="not a request"):
        ResendRequest.read(b"{}")


URL = "resend+https://:re_secret%2Fword@api.resend.com"


def test_a_url_names_the_api_and_hides_its_key() -> None:
    endpoint = parse(URL)
    assert (endpoint.base_url, endpoint.api_key) == ("https://api.resend.com", "re_secret/word")
    assert str(endpoint) == "resend+https://:***@api.resend.com"
    assert str(urls.transport_url(URL)) == "resend+https://:***@api.resend.com"
    assert parse("resend+http://:k@127.0.0.1:8025/").base_url == "http://127.0.0.1:8025"
    assert parse("resend+http://:k@[::1]:8025").base_url == "http://[::1]:8025"


@pytest.mark.parametrize(
    "url",
    [
        "resend+https://api.resend.com",
        "resend+https://:@api.resend.com",
        "resend+https://hidden@api.resend.com",
        "resend+https://user:hidden@api.resend.com",
        "resend+https://:hidden@",
        "resend+https://:hidden@api.resend.com/emails",
        "resend+https://:hidden@api.resend.com?x=1",
        "resend+https://:hidden@api.resend.com:0",
        "resend+https://:hidden@api.resend.com:x",
        "resend+ftp://:hidden@api.resend.com",
    ],
)
def test_wrong_urls_are_refused_without_showing_the_key(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(url, "SMTP_URL_API")
    assert "hidden" not in str(caught.value)
    assert caught.value.setting == "SMTP_URL_API"
    with pytest.raises(Wrong) as wrong:
        urls.transport_url(url)
    assert "hidden" not in f"{wrong.value} {wrong.value.mend}"


@pytest.mark.parametrize("key", ["%0d%0aX: 1", "a%20b", "schl%C3%BCssel", "%00"])
def test_no_key_can_end_its_header(key: str) -> None:
    with pytest.raises(SettingsError):
        parse(f"resend+https://:{key}@api.resend.com")


def test_only_its_own_schemes_are_resends() -> None:
    assert is_resend(" Resend+HTTPS://:k@h")
    assert not is_resend("smtp://resend+https")


@given(st.integers(100, 599), st.binary(max_size=200), st.text(max_size=20))
def test_whatever_an_api_answers_is_refused_or_lost_unless_it_names_a_mail(
    status: int, body: bytes, retry_after: str
) -> None:
    headers = {"retry-after": retry_after}
    expected = HttpLost if 200 <= status < 300 else HttpRefused
    with pytest.raises(expected) as caught:
        accepted(status, headers, b"{" + body)
    assert str(caught.value).isprintable()


def test_the_text_of_an_error_is_cleaned_and_cut() -> None:
    body = json.dumps({"name": "Validation_Error", "message": "a\r\nb\x00" + "x" * 9000}).encode()
    error = refused(422, {}, body)
    assert error.name == "validation_error"
    assert error.text.startswith("a b x")
    assert len(error.text) == 500
