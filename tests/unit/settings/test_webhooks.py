"""What authenticates webhooks is checked when it is read, and never shown."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from campaign_worker.errors import InvalidSettings
from campaign_worker.settings import WebhookSettings, show

SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four b..").decode()
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-feedback"


def loaded(**values: Any) -> WebhookSettings:
    return WebhookSettings.load(env_file=None, **values)


def test_nothing_is_set_unless_somebody_sets_it() -> None:
    settings = loaded()
    assert settings.resend_webhook_secret == ()
    assert settings.ses_webhook_topics == ()
    assert settings.postmark_webhook_secret is None


def test_several_secrets_and_topics_are_separated_by_commas() -> None:
    topics = f"{TOPIC}, arn:aws-us-gov:sns:us-gov-west-1:123456789012:x"
    settings = loaded(resend_webhook_secret=f"{SECRET}, {SECRET}", ses_webhook_topics=topics)
    assert [each.get_secret_value() for each in settings.resend_webhook_secret] == [SECRET] * 2
    assert settings.ses_webhook_topics[1].startswith("arn:aws-us-gov:sns:")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resend_webhook_secret", "re_12345678901234567890"),
        ("resend_webhook_secret", "whsec_"),
        ("resend_webhook_secret", "whsec_c2hvcnQ="),
        ("resend_webhook_secret", "whsec_not base64 at all!"),
        ("resend_webhook_secret", f"{SECRET},"),
        ("ses_webhook_topics", "ses-feedback"),
        ("ses_webhook_topics", "arn:aws:sqs:eu-west-1:123456789012:x"),
        ("ses_webhook_topics", f"{TOPIC},*"),
        ("postmark_webhook_secret", "short"),
        ("postmark_webhook_secret", "sixteen characters\n"),
        ("postmark_webhook_secret", "sechzehn Zeichen für dich"),
    ],
)
def test_what_cannot_be_right_is_refused_and_not_repeated(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        loaded(**{name: value})
    assert raised.value.setting == name.upper()
    assert len(value) < 10 or value not in str(raised.value)


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = loaded(resend_webhook_secret=SECRET, postmark_webhook_secret="a shared secret!")
    shown = " ".join([repr(settings), str(settings), *(each.value for each in show(settings))])
    assert SECRET not in shown
    assert "a shared secret!" not in shown
    assert "***" in shown
