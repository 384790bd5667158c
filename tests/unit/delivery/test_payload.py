"""Foreign JSON becomes a request, or an error that names the field; never anything else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Attachment
from campaign_worker.delivery.payload import FOLLOW_UP, SEND_EMAIL, parse
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, Request
from campaign_worker.errors import PayloadError

WHOLE = {"to": "a@b.cc", "subject": "s", "text": "t"}


def read(
    data: Any,
    name: str = SEND_EMAIL,
    *,
    queue: str = "campaign",
    job_id: str = "7",
    timestamp_ms: int = 9,
) -> Request:
    return parse(name, data, queue=queue, job_id=job_id, timestamp_ms=timestamp_ms)


def read_inline(**data: Any) -> InlineRequest:
    request = read({"to": "a@b.cc", "subject": "s", "text": "t"} | data)
    assert isinstance(request, InlineRequest)
    return request


def refused(data: Any, name: str = SEND_EMAIL) -> str:
    with pytest.raises(PayloadError) as caught:
        read(data, name)
    return caught.value.field


@pytest.mark.parametrize(
    "data",
    [
        {"campaignId": 4, "recipientId": 5},
        {"campaign_id": 4, "recipient_id": 5},
        {"campaignId": "4", "recipientId": "5", "whatever": [1]},
        {"campaignId": 4.0, "recipient_id": "5"},
    ],
)
def test_both_spellings_and_digit_strings_name_a_campaigns_mail(data: dict[str, Any]) -> None:
    assert read(data) == CampaignRequest(4, 5)
    assert read(data | {"step": 2}, FOLLOW_UP) == CampaignRequest(4, 5, 2)
    assert read(data | {"step": "2"}, FOLLOW_UP) == CampaignRequest(4, 5, 2)


BAD_IDS = [
    None, True, False, 0, -1, 1.5, 2**63, 2**70, -(2**70), float("inf"), float("nan"), "", "x",
    "-1", "1.5", "9" * 5000, [], [4], {}, {"id": 4},
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_IDS, ids=lambda value: repr(value)[:20])
def test_what_is_no_id_is_refused_by_name(value: Any) -> None:
    assert refused({"campaignId": value, "recipientId": 5}) == "campaignId"
    assert refused({"campaignId": 4, "recipientId": value}) == "recipientId"
    follow_up = {"campaignId": 4, "recipientId": 5, "step": value}
    assert refused(follow_up, FOLLOW_UP) == "step"


def test_the_largest_id_is_that_of_postgres() -> None:
    largest = 2**63 - 1
    assert read({"campaignId": largest, "recipientId": str(largest)}) == CampaignRequest(
        largest, largest
    )


@pytest.mark.parametrize(
    ("data", "name", "field"),
    [
        (None, SEND_EMAIL, "data"),
        ([], SEND_EMAIL, "data"),
        ("text", SEND_EMAIL, "data"),
        (7, FOLLOW_UP, "data"),
        ({}, SEND_EMAIL, "recipientId"),
        ({"campaignId": 1}, SEND_EMAIL, "recipientId"),
        ({"recipientId": 1}, SEND_EMAIL, "campaignId"),
        ({"campaignId": 1, "recipientId": 1}, FOLLOW_UP, "step"),
        ({"to": "a@b.cc", "text": "t"}, SEND_EMAIL, "subject"),
        ({"to": "a@b.cc", "subject": "s"}, SEND_EMAIL, "html"),
        ({"to": [], "subject": "s", "text": "t"}, SEND_EMAIL, "to"),
        ({"to": None, "subject": "s", "text": "t"}, SEND_EMAIL, "to"),
        ({"to": "", "subject": "s", "text": "t"}, SEND_EMAIL, "to.0"),
        ({"to": [5], "subject": "s", "text": "t"}, SEND_EMAIL, "to.0"),
        ({"to": {"name": "x"}, "subject": "s", "text": "t"}, SEND_EMAIL, "to.0"),
        ({"to": ["a@b.cc"] * 101, "subject": "s", "text": "t"}, SEND_EMAIL, "to"),
        ({"to": "a@b.cc", "subject": 5, "text": "t"}, SEND_EMAIL, "subject"),
        ({"to": "a@b.cc", "subject": "s", "text": 5}, SEND_EMAIL, "text"),
        ({"to": "a@b.cc", "subject": "s", "html": []}, SEND_EMAIL, "html"),
        (WHOLE | {"headers": {"X": 5}}, SEND_EMAIL, "headers.X"),
        (WHOLE | {"from": 5}, SEND_EMAIL, "from"),
        (WHOLE | {"campaignId": "x"}, SEND_EMAIL, "campaignId"),
        (WHOLE | {"idempotencyKey": ""}, SEND_EMAIL, "idempotencyKey"),
    ],
)  # fmt: skip
def test_a_payload_that_does_not_fit_names_the_field(data: Any, name: str, field: str) -> None:
    assert refused(data, name) == field


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("a@b.cc", ("a@b.cc",)),
        ("Ann <a@b.cc>", ("Ann <a@b.cc>",)),
        (["a@b.cc", "Bo <b@b.cc>"], ("a@b.cc", "Bo <b@b.cc>")),
        ({"address": "a@b.cc"}, ("a@b.cc",)),
        ({"name": 'A "B" \\ C', "address": "a@b.cc"}, ('"A \\"B\\" \\\\ C" <a@b.cc>',)),
        ([{"name": "", "address": "a@b.cc"}, "b@b.cc"], ("a@b.cc", "b@b.cc")),
    ],
)
def test_recipients_may_be_written_as_nodemailer_takes_them(
    to: Any, expected: tuple[str, ...]
) -> None:
    assert read_inline(to=to).mail.to == expected


@pytest.mark.parametrize("spelling", ["camel", "snake"])
def test_a_whole_mail_is_read_in_both_spellings(spelling: str) -> None:
    camel = spelling == "camel"
    mail = read_inline(
        **{
            "from": "f@b.cc",
            "replyTo" if camel else "reply_to": "r@b.cc",
            "cc": "c@b.cc",
            "bcc": ["d@b.cc"],
            "html": "<p>",
            "headers": {"X-A": "b"},
            "campaignId" if camel else "campaign_id": 3,
            "idempotencyKey" if camel else "idempotency_key": "key",
            "attachments": [
                {"filename": "f", "content": "t", "contentType" if camel else "content_type": "a/b"}
            ],
        }
    )
    assert (mail.key, mail.campaign_id) == ("key", 3)
    assert (mail.mail.sender, mail.mail.reply_to) == ("f@b.cc", "r@b.cc")
    assert (mail.mail.cc, mail.mail.bcc) == (("c@b.cc",), ("d@b.cc",))
    assert mail.mail.attachments == (Attachment("f", b"t", "a/b"),)


def test_what_is_null_is_absent() -> None:
    nulls = dict.fromkeys(
        ["html", "from", "replyTo", "cc", "bcc", "headers", "attachments", "campaignId",
         "idempotencyKey"]
    )  # fmt: skip
    assert read_inline(**nulls) == read_inline()


@pytest.mark.parametrize("nothing", ["", " "])
def test_what_nodemailer_would_ignore_is_absent(nothing: str) -> None:
    empty = dict.fromkeys(["from", "replyTo", "reply_to", "cc", "bcc"], nothing)
    assert read_inline(**empty) == read_inline()


@pytest.mark.parametrize(
    ("attachment", "content"),
    [
        ({"content": "AP\r\n8=\n", "encoding": "base64"}, b"\x00\xff"),
        ({"content": "text ü"}, "text ü".encode()),
        ({"content": "text", "encoding": "utf8"}, b"text"),
        ({"content": base64.b64encode(b"\x00\xff").decode(), "encoding": "base64"}, b"\x00\xff"),
        ({"content": {"type": "Buffer", "data": [0, 255, 10]}}, b"\x00\xff\n"),
        ({"content": {"type": "Buffer", "data": []}}, b""),
    ],
)
def test_attachments_come_by_content(attachment: dict[str, Any], content: bytes) -> None:
    mail = read_inline(attachments=[{"filename": "f.bin", **attachment}]).mail
    assert mail.attachments == (Attachment("f.bin", content, "application/octet-stream"),)


@pytest.mark.parametrize(
    ("attachment", "field"),
    [
        ({"filename": "f", "path": "/etc/passwd"}, "path"),
        ({"path": "/etc/passwd"}, "path"),
        ({"filename": "f", "content": "x", "path": "/etc/passwd"}, "path"),
        ({"filename": "f", "href": "http://inner/"}, "href"),
        ({"filename": "f", "raw": "x"}, "raw"),
        ({"filename": "f"}, "content"),
        ({"content": "x"}, "filename"),
        ({"filename": "f", "content": "!!", "encoding": "base64"}, "content"),
        ({"filename": "f", "content": "ü", "encoding": "base64"}, "content"),
        ({"filename": "f", "content": "eA", "encoding": "base64"}, "content"),
        ({"filename": "f", "content": "x", "encoding": "hex"}, "encoding"),
        ({"filename": "f", "content": {"type": "Buffer", "data": [256]}}, "content"),
        ({"filename": "f", "content": {"type": "Buffer", "data": [-1]}}, "content"),
        ({"filename": "f", "content": {"type": "Buffer", "data": [2**70]}}, "content"),
        ({"filename": "f", "content": {"type": "Buffer", "data": ["1"]}}, "content"),
        ({"filename": "f", "content": {"type": "Buffer", "data": [1.5]}}, "content"),
        ({"filename": "f", "content": {"type": "Buffer"}}, "content"),
        ({"filename": "f", "content": {"data": [1]}}, "content"),
    ],
)
def test_an_attachment_that_cannot_be_had_is_refused_by_name(
    attachment: dict[str, Any], field: str
) -> None:
    data = {"to": "a@b.cc", "subject": "s", "text": "t", "attachments": [attachment]}
    assert refused(data).startswith("attachments.0.")
    assert refused(data).endswith(f".{field}")


def test_too_many_bytes_are_refused() -> None:
    half = {"filename": "f", "content": "x" * (13 * 1024 * 1024)}
    data = {"to": "a@b.cc", "subject": "s", "text": "t", "attachments": [half, half]}
    assert refused(data) == "attachments"


@pytest.mark.parametrize("bad", [chr(0), chr(0xD800), chr(0xDFFF)])
@pytest.mark.parametrize(
    ("wrap", "field"),
    [
        (lambda bad: {"subject": bad}, "subject"),
        (lambda bad: {"headers": {"X": bad}}, "headers.X"),
        (lambda bad: {"headers": {bad: "x"}}, "headers (a key)"),
        (lambda bad: {"other": [1, {"deep": bad}]}, "other.1.deep"),
        (lambda bad: {"data": {"deep": bad}}, "data.deep"),
        (lambda bad: {"": bad}, "''"),
        (lambda bad: {"x" * 10**6: bad}, "x" * 60),
        (lambda bad: {bad: 1}, "data (a key)"),
    ],
)
def test_what_neither_postgres_nor_a_mail_can_hold_is_refused(
    bad: str, wrap: Any, field: str
) -> None:
    assert refused({"to": "a@b.cc", "subject": "s", "text": "t"} | wrap(f"x{bad}y")) == field


def test_a_name_of_a_header_is_not_repeated_without_end() -> None:
    assert refused(WHOLE | {"headers": {"X" * 10**6: 5}}) == "headers." + "X" * 60


def test_nesting_has_an_end() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert refused({"campaignId": 1, "recipientId": 1, "x": deep}) == "data"


def test_a_mail_without_a_key_is_known_by_queue_job_and_time() -> None:
    base = {"to": "a@b.cc", "subject": "s", "text": "t"}
    keys = {
        request.key
        for request in (
            read(base),
            read(base, queue="news"),
            read(base, job_id="8"),
            read(base, timestamp_ms=10),
        )
        if isinstance(request, InlineRequest)
    }
    assert len(keys) == 4
    assert read(base) == read(base)


@given(st.text(min_size=1, max_size=1000).filter(lambda text: "\x00" not in text))
def test_a_kept_key_is_its_own_key(key: str) -> None:
    try:
        kept = read_inline(idempotencyKey=key).key
    except PayloadError:
        assert any("\ud800" <= character <= "\udfff" for character in key)
        return
    assert len(kept) <= 200
    assert read_inline(idempotencyKey=kept).key == kept


def test_long_keys_stay_apart() -> None:
    one, other = "x" * 500 + "1", "x" * 500 + "2"
    assert read_inline(idempotencyKey=one).key != read_inline(idempotencyKey=other).key


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner)
)
names = st.sampled_from(
    ["campaignId", "recipientId", "recipient_id", "step", "to", "subject", "html", "text", "from",
     "cc", "bcc", "replyTo", "headers", "attachments", "idempotencyKey", "data"]
)  # fmt: skip
attachments = st.lists(
    st.dictionaries(
        st.sampled_from(["filename", "content", "encoding", "contentType", "path", "type", "data"]),
        values
        | st.sampled_from(["base64", "utf-8"])
        | st.fixed_dictionaries({"type": st.just("Buffer"), "data": st.lists(st.integers())}),
    ),
    max_size=2,
)


@given(st.dictionaries(names, values | attachments), st.sampled_from([SEND_EMAIL, FOLLOW_UP]))
def test_anything_is_a_request_or_an_error_that_names_a_field(data: Any, name: str) -> None:
    _one_or_the_other(data, name)


@given(st.dictionaries(names, values), attachments)
def test_anything_beside_a_whole_mail_too(data: dict[str, Any], files: list[Any]) -> None:
    good = {"to": "a@b.cc", "subject": "s", "text": "t", "attachments": files}
    _one_or_the_other(data | good, SEND_EMAIL)


@given(values)
def test_any_json_at_all(data: Any) -> None:
    _one_or_the_other(data, SEND_EMAIL)


def _one_or_the_other(data: Any, name: str) -> None:
    try:
        request = read(data, name)
    except PayloadError as error:
        named = error.field
        assert named
        return
    match request:
        case CampaignRequest(campaign_id, recipient_id, step):
            assert all(type(one) is int for one in (campaign_id, recipient_id, step))
            assert 1 <= campaign_id < 2**63
        case InlineRequest(key, _, mail):
            assert mail.to
            json.dumps([key, mail.subject, mail.to, mail.headers], ensure_ascii=False).encode()
