"""SNS messages are proved by the certificates of a real HTTPS server, and by nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_worker.errors import HttpRefused, ProviderAway, WebhookForged, WebhookMalformed
from campaign_worker.tracking.webhooks.certificates import KEPT_SECONDS, Certificates
from campaign_worker.tracking.webhooks.feedback import HardBounce, Ignored
from campaign_worker.tracking.webhooks.fetch import MAX_BYTES
from campaign_worker.tracking.webhooks.ses_source import SesSource
from campaign_worker.tracking.webhooks.sns import read_message
from tests.fixtures.webhooks import HOST, SES_BOUNCE, TOPIC, Sns, certificate_for

PEM = serialization.Encoding.PEM


def source(sns: Sns, **options: Any) -> SesSource:
    fetcher = sns.fetcher(timeout_seconds=options.pop("timeout_seconds", 5.0))
    return SesSource([TOPIC], fetcher, Certificates(fetcher, **options))


async def told(sns: Sns, message: dict[str, Any], **options: Any) -> Any:
    (feedback,) = await source(sns, **options).read({}, json.dumps(message).encode())
    return feedback


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_report_is_read(sns: Sns, version: str) -> None:
    message = sns.message(SES_BOUNCE, SignatureVersion=version)
    assert isinstance(await told(sns, message), HardBounce)


async def test_a_message_without_a_subject_is_signed_without_one(sns: Sns) -> None:
    message = sns.message(SES_BOUNCE)
    del message["Subject"]
    assert isinstance(await told(sns, sns.signed(message)), HardBounce)


async def test_the_first_words_of_ses_to_a_topic_are_ignored(sns: Sns) -> None:
    words = "Successfully validated SNS topic for Amazon SES event publishing."
    assert await told(sns, sns.message(words)) == Ignored("text")


@pytest.mark.parametrize(
    "name", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Signature"]
)
async def test_whatever_is_changed_the_message_is_forged(sns: Sns, name: str) -> None:
    message = sns.message(SES_BOUNCE)
    if name == "Signature":
        message[name] = base64.b64encode(b"x" * 256).decode()
    else:
        message[name] += "x"
    with pytest.raises(WebhookForged):
        await told(sns, message)


async def test_a_signature_of_one_version_is_none_of_the_other(sns: Sns) -> None:
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE) | {"SignatureVersion": "2"})


async def test_another_topics_messages_are_refused_before_anybody_is_asked(sns: Sns) -> None:
    message = sns.message(SES_BOUNCE, TopicArn=TOPIC.replace("ses-feedback", "mine"))
    with pytest.raises(WebhookForged):
        await told(sns, message)
    assert sns.asked == []


PATH = "/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}{PATH}",
        f"https://{HOST}:444{PATH}",
        f"https://user@{HOST}{PATH}",
        f"https://{HOST}@evil.example{PATH}",
        f"https://{HOST}.evil.example{PATH}",
        f"https://evil.example/{HOST}{PATH}",
        f"https://evil.example#{HOST}{PATH}",
        f"https://xsns.us-west-2.amazonaws.com{PATH}",
        f"https://sns.evil.us-west-2.amazonaws.com{PATH}",
        f"https://s3.us-west-2.amazonaws.com{PATH}",
        f"https://sns.us-west-2.amazonaws.com.cn.evil.example{PATH}",
        f"https://sns.us-west-2.amazonaws.co{PATH}",
        f"https://sns.amazonaws.com{PATH}",
        f"https://SNS.US-WEST-2.AMAZONAWS.COM{PATH}",
        f"https://{HOST}/?Action=GetTopicAttributes",
        f"https://{HOST}{PATH}?x=1",
        f"https://{HOST}{PATH}#x",
        f"https://{HOST}/x{PATH}",
        f"https://{HOST}/../{PATH}",
        f"https://{HOST}{PATH}\n",
        f"https://{HOST}\n{PATH}",
        f"https://sns.us-west-\uff12.amazonaws.com{PATH}",
        "",
        "x" * 100_000,
    ],
)
async def test_a_certificate_is_fetched_from_sns_only(sns: Sns, url: str) -> None:
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE, SigningCertURL=url))
    assert sns.asked == []


@pytest.mark.parametrize(
    "region", ["eu-central-1", "us-gov-west-1", "ap-southeast-3", "us-iso-east-1"]
)
def test_every_region_has_its_host(sns_keys: Any, region: str) -> None:
    url = f"https://sns.{region}.amazonaws.com{PATH}"
    message = Sns(sns_keys).message(SES_BOUNCE, SigningCertURL=url)
    assert read_message(json.dumps(message).encode()).certificate_url == url


async def test_a_certificate_is_fetched_once(sns: Sns) -> None:
    one = source(sns)
    bodies = [json.dumps(sns.message(SES_BOUNCE)).encode() for _ in range(8)]
    read = await asyncio.gather(*(one.read({}, body) for body in bodies))
    assert len(read) == 8
    assert sns.asked == [PATH]


async def test_a_certificate_is_fetched_again_after_a_day(sns: Sns) -> None:
    now = 0.0
    fetcher = sns.fetcher()
    certificates = Certificates(fetcher, clock=lambda: now)
    message = read_message(json.dumps(sns.message(SES_BOUNCE)).encode())
    for now in (0.0, KEPT_SECONDS - 1, KEPT_SECONDS):  # noqa: B007 - the clock reads it
        await certificates.verify(message)
    assert sns.asked == [PATH] * 2


async def test_a_certificate_that_is_not_there_is_not_asked_for_each_time(sns: Sns) -> None:
    sns.pages.clear()
    one = source(sns)
    for _ in range(5):
        with pytest.raises(WebhookForged):
            await one.read({}, json.dumps(sns.message(SES_BOUNCE)).encode())
    assert sns.asked == [PATH]


async def test_no_number_of_wrong_certificates_pushes_out_the_right_one(sns: Sns) -> None:
    one = source(sns)
    right = json.dumps(sns.message(SES_BOUNCE)).encode()
    await one.read({}, right)
    for number in range(100):
        url = f"https://{HOST}/SimpleNotificationService-{number}.pem"
        wrong = json.dumps(sns.message(SES_BOUNCE, SigningCertURL=url)).encode()
        with pytest.raises(WebhookForged):
            await one.read({}, wrong)
    await one.read({}, right)
    assert sns.asked.count(PATH) == 1
    assert len(one._certificates._refused) <= 32


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)])
async def test_a_certificate_out_of_its_time_proves_nothing(
    sns: Sns, days: tuple[int, int]
) -> None:
    sns.pages[PATH] = (200, pem_of(sns, "sns.amazonaws.com", sns.keys.signer, days=days))
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE))


async def test_a_certificate_that_was_kept_proves_nothing_when_its_time_is_over(sns: Sns) -> None:
    now = datetime.now(UTC)
    certificates = Certificates(sns.fetcher(), now=lambda: now)
    message = read_message(json.dumps(sns.message(SES_BOUNCE)).encode())
    await certificates.verify(message)
    now += timedelta(days=2)
    with pytest.raises(WebhookForged):
        await certificates.verify(message)


@pytest.mark.parametrize(
    "name", ["evil.example", "amazonaws.com", "sns.amazonaws.com.evil.example"]
)
async def test_a_certificate_of_another_name_proves_nothing(sns: Sns, name: str) -> None:
    sns.pages[PATH] = (200, pem_of(sns, name, sns.keys.signer))
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE))


async def test_another_key_proves_nothing(sns: Sns) -> None:
    other = rsa.generate_private_key(65537, 2048)
    sns.pages[PATH] = (200, pem_of(sns, "sns.amazonaws.com", other))
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE))


async def test_a_key_that_is_too_short_proves_nothing(sns: Sns) -> None:
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - as a forger would have it
    sns.pages[PATH] = (200, pem_of(sns, "sns.amazonaws.com", short))
    message = sns.message(SES_BOUNCE, SignatureVersion="2")
    signed = read_message(json.dumps(message).encode()).signed
    signature = short.sign(signed, PKCS1v15(), SHA256())
    with pytest.raises(WebhookForged):
        await told(sns, message | {"Signature": base64.b64encode(signature).decode()})


async def test_a_key_of_another_kind_proves_nothing(sns: Sns) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    sns.pages[PATH] = (200, pem_of(sns, "sns.amazonaws.com", other))
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE))


@pytest.mark.parametrize(
    "page",
    [
        (200, b""),
        (200, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        (200, b"\x00" * (MAX_BYTES + 1)),
        (404, b"no"),
        (410, b"no more"),
    ],
    ids=["empty", "broken", "large", "not there", "gone"],
)
async def test_what_is_no_certificate_proves_nothing(sns: Sns, page: tuple[int, bytes]) -> None:
    sns.pages[PATH] = page
    with pytest.raises(WebhookForged):
        await told(sns, sns.message(SES_BOUNCE))
    assert sns.asked == [PATH]


@pytest.mark.parametrize("status", [500, 503, 429, 403, 302])
async def test_a_server_in_trouble_is_asked_again_next_time(sns: Sns, status: int) -> None:
    sns.pages[PATH] = (status, f"https://{HOST}/elsewhere".encode())
    one = source(sns)
    body = json.dumps(sns.message(SES_BOUNCE)).encode()
    with pytest.raises(ProviderAway):
        await one.read({}, body)
    sns.pages[PATH] = (200, sns.keys.certificate)
    assert len(await one.read({}, body)) == 1


async def test_a_server_that_is_not_there_is_asked_again_next_time(sns: Sns) -> None:
    one = source(sns)
    body = json.dumps(sns.message(SES_BOUNCE)).encode()
    await sns.stop()
    with pytest.raises(ProviderAway):
        await one.read({}, body)
    await sns.start()
    assert len(await one.read({}, body)) == 1


async def test_a_server_that_nobody_vouches_for_is_not_believed(sns: Sns) -> None:
    # The system's authorities do not know ours.
    trusting = sns.fetcher()
    trusting._ssl_context = None
    with pytest.raises(ProviderAway):
        await trusting.fetch(f"https://{HOST}{PATH}")
    assert sns.asked == []


async def test_a_server_that_says_nothing_is_given_up(sns: Sns) -> None:
    sns.answering.clear()
    with pytest.raises(ProviderAway):
        await sns.fetcher(timeout_seconds=0.2).fetch(f"https://{HOST}/")


async def test_a_page_of_any_length_is_read_so_far_and_no_further(sns: Sns) -> None:
    sns.pages["/x"] = (200, b"x" * 5_000_000)
    with pytest.raises(HttpRefused):
        await sns.fetcher().fetch(f"https://{HOST}/x")


async def test_a_subscription_to_our_topic_is_confirmed(sns: Sns) -> None:
    message = sns.subscription()
    path = message["SubscribeURL"].removeprefix(f"https://{HOST}")
    sns.pages[path] = (200, b"<ConfirmSubscriptionResponse/>")
    assert await told(sns, message) == Ignored("SubscriptionConfirmation")
    assert sns.asked == [PATH, path]


@pytest.mark.parametrize(
    "url",
    [
        f"https://evil.example/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x",
        f"https://{HOST}.evil.example/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x",
        f"http://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x",
        f"https://{HOST}/?Action=Publish&TopicArn={TOPIC}&Message=x",
        f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}x&Token=x",
        f"https://{HOST}/?Action=ConfirmSubscription&Action=Publish&TopicArn={TOPIC}",
        f"https://{HOST}/?" + "a=b&" * 100,
        f"https://{HOST}/x?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x",
        "",
    ],
)
async def test_a_subscription_is_confirmed_at_sns_only_and_for_its_topic(
    sns: Sns, url: str
) -> None:
    with pytest.raises((WebhookForged, WebhookMalformed, ValueError)):
        await told(sns, sns.subscription(SubscribeURL=url))
    assert sns.asked == [PATH]


async def test_a_subscription_that_is_not_signed_confirms_nothing(sns: Sns) -> None:
    with pytest.raises(WebhookForged):
        await told(sns, sns.subscription() | {"Token": "another"})
    assert sns.asked == [PATH]


async def test_a_token_that_is_too_old_changes_nothing(sns: Sns) -> None:
    assert await told(sns, sns.subscription()) == Ignored("SubscriptionConfirmation")


async def test_a_confirmation_that_finds_nobody_is_asked_for_again(sns: Sns) -> None:
    message = sns.subscription()
    path = message["SubscribeURL"].removeprefix(f"https://{HOST}")
    sns.pages[path] = (503, b"")
    with pytest.raises(ProviderAway):
        await told(sns, message)


async def test_the_end_of_a_subscription_is_only_told(sns: Sns) -> None:
    message = sns.subscription(Type="UnsubscribeConfirmation")
    assert await told(sns, message) == Ignored("UnsubscribeConfirmation")
    assert sns.asked == [PATH]


@pytest.mark.parametrize(
    "missing",
    [
        *("Type", "MessageId", "TopicArn", "Message", "Timestamp"),
        *("SignatureVersion", "Signature", "SigningCertURL"),
    ],
)
async def test_a_message_without_a_field_is_malformed(sns: Sns, missing: str) -> None:
    message = sns.message(SES_BOUNCE)
    del message[missing]
    with pytest.raises(WebhookMalformed):
        await told(sns, message)
    assert sns.asked == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "Other"),
        ("SignatureVersion", "3"),
        ("SignatureVersion", 1),
        ("Signature", "???"),
        ("Message", None),
        ("Message", "\ud800"),
        ("MessageId", "a b"),
        ("Subject", 5),
    ],
)
async def test_a_field_of_another_shape_is_malformed(sns: Sns, name: str, value: object) -> None:
    with pytest.raises(WebhookMalformed):
        await told(sns, sns.message(SES_BOUNCE) | {name: value})
    assert sns.asked == []


async def test_a_report_that_is_no_json_is_malformed(sns: Sns) -> None:
    with pytest.raises(WebhookMalformed):
        await told(sns, sns.message("{"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(body=st.binary(max_size=300) | st.text().map(str.encode))
async def test_any_other_body_is_refused(sns_keys: Any, body: bytes) -> None:
    with pytest.raises((WebhookForged, WebhookMalformed)):
        await SesSource([TOPIC], Sns(sns_keys).fetcher()).read({}, body)


def pem_of(sns: Sns, name: str, key: Any, **options: Any) -> bytes:
    """Make a certificate by the local authority's name; nobody checks who issued it."""
    made = certificate_for(name, key.public_key(), sns.keys.ca.subject, sns.keys.signer, **options)
    assert isinstance(made, x509.Certificate)
    return made.public_bytes(PEM)
