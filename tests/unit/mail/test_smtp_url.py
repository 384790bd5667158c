"""SMTP URLs: what they mean, what is refused, and that no error or repr shows a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.errors import SettingsError
from campaign_worker.mail.smtp_url import Security, SmtpEndpoint, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", SmtpEndpoint("mail.example", 25, Security.PLAIN)),
        ("smtps://mail.example/", SmtpEndpoint("mail.example", 465, Security.TLS)),
        ("SMTP+STARTTLS://Mail.example", SmtpEndpoint("mail.example", 587, Security.STARTTLS)),
        (" smtp://localhost:2525\n", SmtpEndpoint("localhost", 2525, Security.PLAIN)),
        ("smtp://[::1]:25", SmtpEndpoint("::1", 25, Security.PLAIN)),
        ("smtps://h?tls_verify=false", SmtpEndpoint("h", 465, Security.TLS, verify_tls=False)),
        ("smtps://h?tls_verify=true", SmtpEndpoint("h", 465, Security.TLS)),
        (
            "smtp+starttls://ann%40b.example:p%2Fw%23%25%3A@h:25",
            SmtpEndpoint("h", 25, Security.STARTTLS, "ann@b.example", "p/w#%:"),
        ),
        ("smtp://u:p:q@h", SmtpEndpoint("h", 25, Security.PLAIN, "u", "p:q")),
        ("smtp://%C3%BC:%E2%82%AC@h", SmtpEndpoint("h", 25, Security.PLAIN, "ü", "€")),
    ],
)
def test_a_url_is_read(url: str, expected: SmtpEndpoint) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "must begin with"),
        ("mail.example:25", "must begin with"),
        ("http://mail.example", "must begin with"),
        ("smtp://", "no valid host"),
        ("smtp://u:secret@", "no valid host"),
        ("smtp://a b", "no valid host"),
        ("smtp://h:99999", "is not a URL"),
        ("smtp://h:port", "is not a URL"),
        ("smtp://[::1", "is not a URL"),
        ("smtp://h:0", "port 0"),
        ("smtp://u:secret#word@h", "is not a URL"),
        ("smtp://u:secret/word@h", "is not a URL"),
        ("smtp://u:12?secret@h", "unknown option after"),
        ("smtp://h/path", "something after host"),
        ("smtp://u@h", "without a password"),
        ("smtp://:secret@h", "without a user"),
        ("smtp://u:secret%00@h", "control character"),
        ("smtp://u:secret%FF@h", "not UTF-8"),
        ("smtp://u:secret@h?timeout=5", "unknown option 'timeout'"),
        ("smtp://h?tls_verify=maybe", "neither true nor false"),
        ("smtp://h?tls_verify", "neither true nor false"),
    ],
)
def test_a_wrong_url_is_refused_naming_the_setting_and_no_secret(url: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        parse(url, "SMTP_URL_BULK")
    assert caught.value.setting == "SMTP_URL_BULK"
    assert str(caught.value).startswith("SMTP_URL_BULK: ")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_user_and_password_are_masked() -> None:
    endpoint = parse("smtp://ann:secret@h?tls_verify=false")
    assert str(endpoint) == "smtp://***:***@h:25?tls_verify=false"
    assert "secret" not in repr(endpoint)
    assert "ann" not in repr(endpoint)
    assert str(parse("smtps://[::1]")) == "smtps://[::1]:465"


@given(st.one_of(st.text(max_size=40), st.text(max_size=40).map(lambda text: f"smtp://{text}")))
def test_any_text_is_an_endpoint_or_a_settings_error(url: str) -> None:
    try:
        endpoint = parse(url)
    except SettingsError:
        return
    assert 0 < endpoint.port < 65536
    assert endpoint.host.isprintable()
