"""What providers document is read; what nobody documents changes nothing and breaks nothing."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.errors import WebhookForged, WebhookMalformed
from campaign_worker.settings import Secret
from campaign_worker.tracking.webhooks import fields, postmark, resend, ses
from campaign_worker.tracking.webhooks.feedback import (
    Complaint,
    Feedback,
    HardBounce,
    Ignored,
    SoftBounce,
)
from campaign_worker.tracking.webhooks.svix import SvixVerifier
from tests.fixtures.webhooks import (
    POSTMARK_BOUNCE,
    POSTMARK_COMPLAINT,
    POSTMARK_SECRET,
    RESEND_BOUNCED,
    RESEND_COMPLAINED,
    SES_BOUNCE,
    SES_COMPLAINT,
    SES_DELIVERY,
    SVIX_SECRET,
    changed,
    postmark_headers,
    svix_headers,
)

NOW = 1_790_000_000.0
BODY = json.dumps(RESEND_BOUNCED).encode()


def verified(headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> str:
    return SvixVerifier([Secret(SVIX_SECRET)], now=lambda: now).verify(headers, body)


# --- Svix ---


def test_the_example_of_svix_itself_is_authentic() -> None:
    # https://docs.svix.com/receiving/verifying-payloads/how-manual
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "svix-timestamp": "1614265330",
        "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verifier = SvixVerifier([secret], now=lambda: 1614265330.0)
    assert verifier.verify(headers, b'{"test": 2432232314}') == headers["svix-id"]


def test_an_event_is_known_by_its_id() -> None:
    assert verified(svix_headers(BODY, at=NOW, event_id="msg_7")) == "msg_7"


def test_the_headers_may_have_their_standard_names() -> None:
    headers = svix_headers(BODY, at=NOW)
    renamed = {name.replace("svix", "webhook"): value for name, value in headers.items()}
    assert verified(renamed) == "msg_1"


def test_one_of_several_signatures_is_enough() -> None:
    headers = svix_headers(BODY, at=NOW)
    others = f"v1a,abc v1,{'A' * 44} {headers['svix-signature']} v2,x"
    assert verified(headers | {"svix-signature": others}) == "msg_1"


def test_each_of_several_secrets_serves_while_they_are_exchanged() -> None:
    old = "whsec_" + base64.b64encode(b"another key of 24 bytes.").decode()
    verifier = SvixVerifier([Secret(old), Secret(SVIX_SECRET)], now=lambda: NOW)
    assert verifier.verify(svix_headers(BODY, at=NOW, secret=old), BODY) == "msg_1"
    assert verifier.verify(svix_headers(BODY, at=NOW), BODY) == "msg_1"


@pytest.mark.parametrize("late", [-300, 300])
def test_clocks_may_differ_by_five_minutes(late: int) -> None:
    assert verified(svix_headers(BODY, at=NOW + late)) == "msg_1"


@pytest.mark.parametrize("late", [-301, 301, -86_400, 10**11])
def test_what_was_signed_long_ago_or_will_be_is_refused(late: int) -> None:
    with pytest.raises(WebhookForged):
        verified(svix_headers(BODY, at=NOW + late))


@pytest.mark.parametrize(
    "forged",
    [
        {"svix-signature": ""},
        {"svix-signature": "v1,"},
        {"svix-signature": f"v1,{'A' * 44}"},
        {"svix-signature": "v1,\udc80"},
        {"svix-id": ""},
        {"svix-id": "msg_2"},
        {"svix-id": "a" * 256},
        {"svix-id": "a b"},
        {"svix-timestamp": ""},
        {"svix-timestamp": "now"},
        {"svix-timestamp": "-1"},
        {"svix-timestamp": "1e9"},
        {"svix-timestamp": "9" * 5000},
        {"svix-timestamp": "١٧٩"},
        {"svix-timestamp": str(int(NOW) + 1)},
    ],
    ids=str,
)
def test_whatever_is_changed_nothing_is_authentic(forged: dict[str, str]) -> None:
    with pytest.raises(WebhookForged):
        verified(svix_headers(BODY, at=NOW) | forged)


def test_a_signature_of_another_version_does_not_count() -> None:
    headers = svix_headers(BODY, at=NOW)
    with pytest.raises(WebhookForged):
        verified(headers | {"svix-signature": headers["svix-signature"].replace("v1,", "v2,")})


def test_the_right_signature_behind_too_many_wrong_ones_is_not_looked_for() -> None:
    headers = svix_headers(BODY, at=NOW)
    many = "v1,x " * 100_000 + headers["svix-signature"]
    with pytest.raises(WebhookForged):
        verified(headers | {"svix-signature": many})


@given(body=st.binary(max_size=200))
def test_no_other_body_has_the_signature(body: bytes) -> None:
    if body != BODY:
        with pytest.raises(WebhookForged):
            verified(svix_headers(BODY, at=NOW), body)


# --- Resend ---


def test_a_bounce_of_resend_is_read() -> None:
    assert resend.parse("msg_1", RESEND_BOUNCED) == HardBounce(
        provider=resend.Provider.RESEND,
        event_id="msg_1",
        addresses=("delivered@resend.dev",),
        message_id=None,
        provider_id="56761188-7520-42d8-8898-ff6fc54ce618",
        occurred_at=datetime(2026, 11, 22, 23, 41, 12, 126_000, UTC),
        detail="Permanent Suppressed The recipient's email address is on the suppression list"
        " because it has a recent history of producing hard bounces.",
    )


def test_a_complaint_of_resend_is_read() -> None:
    told = resend.parse("msg_1", RESEND_COMPLAINED)
    assert isinstance(told, Complaint)
    assert told.addresses == ("delivered@resend.dev",)


@pytest.mark.parametrize(
    ("bounce", "kind"),
    [
        ({"type": "Permanent", "subType": "General"}, HardBounce),
        ({"type": "Transient", "subType": "MailboxFull"}, SoftBounce),
        ({"type": "Temporary", "subType": "General"}, SoftBounce),
        ({"type": "Undetermined", "subType": "Undetermined"}, SoftBounce),
        ({"type": "Permanent", "subType": "MessageRejected"}, SoftBounce),
        ({}, HardBounce),
        (None, HardBounce),
    ],
)
def test_bounces_of_resend_are_hard_where_the_address_is_at_fault(
    bounce: dict[str, str] | None, kind: type[Feedback]
) -> None:
    assert type(resend.parse("msg_1", changed(RESEND_BOUNCED, data__bounce=bounce))) is kind


def test_our_message_id_counts_and_that_of_resends_server_does_not() -> None:
    ours = "<1.2.0.campaign-worker@example.org>"
    told = resend.parse("msg_1", changed(RESEND_BOUNCED, data__message_id=ours))
    theirs = resend.parse("msg_1", RESEND_BOUNCED)
    assert isinstance(told, HardBounce)
    assert isinstance(theirs, HardBounce)
    assert (told.message_id, theirs.message_id) == (ours, None)


def test_of_several_recipients_none_is_called_dead() -> None:
    told = resend.parse("msg_1", changed(RESEND_BOUNCED, data__to=["a@b.c", "d@e.f"]))
    assert isinstance(told, HardBounce)
    assert told.addresses == ()


@pytest.mark.parametrize(
    "kind", ["email.sent", "email.delivered", "email.opened", "contact.x", "", 3]
)
def test_other_events_of_resend_are_ignored(kind: object) -> None:
    assert isinstance(resend.parse("msg_1", changed(RESEND_BOUNCED, type=kind)), Ignored)


# --- SES ---


def test_a_bounce_of_ses_is_read() -> None:
    assert ses.parse("sns-1", SES_BOUNCE) == HardBounce(
        provider=ses.Provider.SES,
        event_id="00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa068a-000000",
        addresses=("jane@example.com",),
        message_id="<custom-message-ID>",
        provider_id="00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000",
        occurred_at=datetime(2016, 1, 27, 14, 59, 38, 237_000, UTC),
        detail="Permanent General smtp; 550 5.1.1 <jane@example.com>... User",
    )


def test_a_published_event_of_ses_is_read_as_a_notification_is() -> None:
    event = {key: value for key, value in SES_BOUNCE.items() if key != "notificationType"}
    assert ses.parse("sns-1", event | {"eventType": "Bounce"}) == ses.parse("sns-1", SES_BOUNCE)


def test_a_notification_without_headers_has_no_message_id() -> None:
    mail = {key: value for key, value in SES_BOUNCE["mail"].items() if "eaders" not in key}
    told = ses.parse("sns-1", changed(SES_BOUNCE, mail=mail))
    assert isinstance(told, HardBounce)
    assert told.message_id is None


def test_without_its_own_id_a_report_has_that_of_the_message() -> None:
    told = ses.parse("sns-1", changed(SES_BOUNCE, bounce__feedbackId=None))
    assert isinstance(told, HardBounce)
    assert told.event_id == "sns-1"


@pytest.mark.parametrize(
    ("sort", "sub", "kind"),
    [
        ("Permanent", "General", HardBounce),
        ("Permanent", "NoEmail", HardBounce),
        ("Permanent", "OnAccountSuppressionList", HardBounce),
        ("Permanent", "ContentRejected", SoftBounce),
        ("Transient", "MailboxFull", SoftBounce),
        ("Undetermined", "Undetermined", SoftBounce),
        (None, None, SoftBounce),
    ],
)
def test_bounces_of_ses_are_hard_where_it_says_permanent(
    sort: str | None, sub: str | None, kind: type[Feedback]
) -> None:
    bounce = changed(SES_BOUNCE, bounce__bounceType=sort, bounce__bounceSubType=sub)
    assert type(ses.parse("sns-1", bounce)) is kind


def test_every_bounced_recipient_is_named() -> None:
    two = [{"emailAddress": "a@b.c"}, {"emailAddress": "d@e.f"}, {"emailAddress": "a@b.c"}]
    told = ses.parse("sns-1", changed(SES_BOUNCE, bounce__bouncedRecipients=two))
    assert isinstance(told, HardBounce)
    assert told.addresses == ("a@b.c", "d@e.f")


def test_a_complaint_of_ses_is_read_and_of_several_nobody_is_accused() -> None:
    one = ses.parse("sns-1", SES_COMPLAINT)
    several = [{"emailAddress": "a@b.c"}, {"emailAddress": "d@b.c"}]
    two = ses.parse("sns-1", changed(SES_COMPLAINT, complaint__complainedRecipients=several))
    assert isinstance(one, Complaint)
    assert isinstance(two, Complaint)
    assert (one.addresses, two.addresses) == (("richard@example.com",), ())


@pytest.mark.parametrize("sort", ["not-spam", "auth-failure"])
def test_what_no_recipient_complained_by_is_ignored(sort: str) -> None:
    told = ses.parse("sns-1", changed(SES_COMPLAINT, complaint__complaintFeedbackType=sort))
    assert isinstance(told, Ignored)


def test_a_delivery_is_ignored() -> None:
    assert ses.parse("sns-1", SES_DELIVERY) == Ignored("Delivery")


# --- Postmark ---


def test_a_bounce_of_postmark_is_read() -> None:
    assert postmark.parse(POSTMARK_BOUNCE) == HardBounce(
        provider=postmark.Provider.POSTMARK,
        event_id="4323372036854775807",
        addresses=("john@example.com",),
        message_id=None,
        provider_id="883953f4-6105-42a2-a16a-77a8eac79483",
        occurred_at=datetime(2019, 11, 5, 16, 33, 54, 907_025, UTC),
        detail="HardBounce The server was unable to deliver your message (ex: unknown user,"
        " mailbox not found). Test bounce details",
    )


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"Type": "BadEmailAddress"}, HardBounce),
        ({"Type": "Blocked", "Inactive": True}, HardBounce),
        ({"Type": "Blocked", "Inactive": False}, SoftBounce),
        ({"Type": "Transient", "Inactive": False}, SoftBounce),
        ({"Type": "DnsError", "Inactive": False}, SoftBounce),
        ({"Type": "AutoResponder", "Inactive": False}, Ignored),
        ({"RecordType": "Delivery"}, Ignored),
        ({"RecordType": "SubscriptionChange"}, Ignored),
        ({"RecordType": None}, Ignored),
    ],
)
def test_bounces_of_postmark_are_hard_where_it_sends_no_more(
    changes: dict[str, Any], kind: type[Feedback]
) -> None:
    assert type(postmark.parse(changed(POSTMARK_BOUNCE, **changes))) is kind


def test_a_complaint_of_postmark_is_read_also_among_the_bounces() -> None:
    assert isinstance(postmark.parse(POSTMARK_COMPLAINT), Complaint)
    assert isinstance(postmark.parse(POSTMARK_COMPLAINT | {"RecordType": "Bounce"}), Complaint)


@pytest.mark.parametrize("identity", [None, "", True, 1.5, [], "a b", "\x00", "x" * 256])
def test_a_record_without_an_id_is_refused(identity: object) -> None:
    with pytest.raises(WebhookMalformed):
        postmark.parse(changed(POSTMARK_BOUNCE, ID=identity))


async def test_postmark_shows_the_secret_as_password_or_in_a_header() -> None:
    source = postmark.PostmarkSource(Secret(POSTMARK_SECRET))
    body = json.dumps(POSTMARK_BOUNCE).encode()
    for headers in (postmark_headers(), {"X-Webhook-Secret": POSTMARK_SECRET}):
        (told,) = await source.read(headers, body)
        assert isinstance(told, HardBounce)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Webhook-Secret": POSTMARK_SECRET[:-1]},
        {"X-Webhook-Secret": POSTMARK_SECRET + "x"},
        {"X-Webhook-Secret": "\udc80" * 9000},
        postmark_headers("wrong"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic ???"},
        {"Authorization": f"Bearer {POSTMARK_SECRET}"},
        {"Authorization": "Basic " + base64.b64encode(POSTMARK_SECRET.encode()).decode()},
        {"Authorization": "Basic " + "A" * 100_000},
    ],
    ids=str,
)
async def test_without_the_secret_nothing_is_authentic(headers: dict[str, str]) -> None:
    with pytest.raises(WebhookForged):
        await postmark.PostmarkSource(Secret(POSTMARK_SECRET)).read(headers, b"{}")


# --- anything ---

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
PARSERS = {
    "resend": (lambda given: resend.parse("e", given), [RESEND_BOUNCED, RESEND_COMPLAINED]),
    "ses": (lambda given: ses.parse("e", given), [SES_BOUNCE, SES_COMPLAINT]),
    "postmark": (postmark.parse, [POSTMARK_BOUNCE, POSTMARK_COMPLAINT]),
}


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List every place in a payload."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [at, *(path for key, each in inner for path in paths(each, (*at, key)))]


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "x\x00\ud800", [], [[]], {}, {"a": []}])
@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_value_of_any_type_in_each_place_is_read_or_refused(name: str, value: object) -> None:
    parse, payloads = PARSERS[name]
    read = 0
    for payload in payloads:
        for *parents, last in paths(payload)[1:]:
            made = changed(payload)
            place: Any = made
            for parent in parents:
                place = place[parent]
            place[last] = value
            try:
                read += isinstance(parse(made), Feedback)
            except WebhookMalformed:
                assert last == "ID"
    assert read > 0


@given(data=st.data(), name=st.sampled_from(sorted(PARSERS)), value=values)
def test_any_value_in_any_place_is_read_clean_or_refused(
    data: st.DataObject, name: str, value: Any
) -> None:
    parse, payloads = PARSERS[name]
    payload = changed(data.draw(st.sampled_from(payloads)))
    *parents, last = data.draw(st.sampled_from(paths(payload)[1:]))
    place: Any = payload
    for parent in parents:
        place = place[parent]
    place[last] = value
    try:
        told = parse(payload)
    except WebhookMalformed:
        return
    if isinstance(told, Ignored):
        return
    texts = [told.event_id, told.detail, told.provider_id or "", told.message_id or ""]
    assert all(len(text) <= 1000 for text in texts)
    for text in [*texts, *told.addresses]:
        assert "\x00" not in text
        text.encode("utf-8")
    assert told.occurred_at is None or told.occurred_at.tzinfo is not None
    assert len(told.addresses) <= 50


@pytest.mark.parametrize(
    "address",
    [
        "a@b.c\r\nRCPT TO:<x@y>",
        "a@b.c\x00",
        "a@\ud800",
        "a" * 320 + "@b.c",
        "nobody",
        "",
        None,
        7,
        ["a@b.c"],
    ],
)
def test_what_cannot_be_an_address_is_left_out(address: object) -> None:
    assert fields.addresses([address, "right@example.com", address]) == ("right@example.com",)


def test_of_a_list_without_end_the_first_addresses_are_read() -> None:
    assert len(fields.addresses([f"a{number}@b.c" for number in range(100_000)])) == 50


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b"1" * 5000,
        b'{"a":' * 9000,
    ],
)
def test_what_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(WebhookMalformed):
        fields.read_object(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-11-22T23:41:11.894719+00:00", datetime(2024, 11, 22, 23, 41, 11, 894_719, UTC)),
        ("2024-02-22 23:41:12.126+00", datetime(2024, 2, 22, 23, 41, 12, 126_000, UTC)),
        ("2018-02-20T12:54:23.3396434-05:00", datetime(2018, 2, 20, 17, 54, 23, 339_643, UTC)),
        ("2024-11-22T23:41:11", datetime(2024, 11, 22, 23, 41, 11, 0, UTC)),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("yesterday", None),
        ("2" * 9_000_000, None),
        (1_700_000_000, None),
    ],
)
def test_times_are_read_as_providers_write_them(text: object, expected: datetime | None) -> None:
    assert fields.moment(text) == expected
