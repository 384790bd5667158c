"""Messages: what is written reads back as meant, and nobody can write into the headers."""

from __future__ import annotations

import dataclasses
import email
import email.message
import email.policy
import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Attachment, Mail, Rendered
from campaign_worker.errors import PayloadError
from campaign_worker.mail.mime import build, needs_smtputf8

MAIL = Mail(
    message_id="<c1.r2.s0@mail.example>",
    date=datetime(2026, 11, 22, 8, 30, tzinfo=UTC),
    sender="Shop <shop@mail.example>",
    to=("Ann Lee <ann@b.example>",),
    rendered=Rendered("Hello", "<p>Hello</p>", "Hello\n"),
)


def with_subject(subject: str) -> Mail:
    return dataclasses.replace(MAIL, rendered=Rendered(subject, None, "x"))


def read(mail: Mail) -> email.message.EmailMessage:
    return email.message_from_bytes(build(mail), policy=email.policy.default)


def body_of(part: email.message.Message) -> str:
    """Give the text of a part with the line ends of Python."""
    assert isinstance(part, email.message.EmailMessage)
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def header_lines(content: bytes) -> list[str]:
    """Give the names of the top header block, as a server sees them: no library's opinion."""
    head = content.split(b"\r\n\r\n", 1)[0]
    return [
        line.split(b":", 1)[0].decode() for line in head.split(b"\r\n") if line[:1] not in b" \t"
    ]


def test_a_mail_with_text_and_html_reads_back() -> None:
    message = read(MAIL)
    assert message["From"] == "Shop <shop@mail.example>"
    assert message["To"] == "Ann Lee <ann@b.example>"
    assert message["Subject"] == "Hello"
    assert message["Message-ID"] == "<c1.r2.s0@mail.example>"
    assert message["Date"].datetime == MAIL.date
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert (text.get_content_type(), body_of(text)) == ("text/plain", "Hello\n")
    assert (html.get_content_type(), body_of(html)) == ("text/html", "<p>Hello</p>\n")


def test_the_order_of_headers_is_fixed() -> None:
    mail = dataclasses.replace(
        MAIL, cc=("c@b.example",), reply_to="r@b.example", headers={"X-One": "1"}
    )
    assert header_lines(build(mail)) == [
        "From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "X-One", "MIME-Version",
        "Content-Type",
    ]  # fmt: skip


def test_the_same_mail_gives_the_same_bytes() -> None:
    attachment = Attachment("a.txt", b"data", "text/plain")
    first = dataclasses.replace(MAIL, attachments=(attachment,))
    second = dataclasses.replace(MAIL, attachments=(dataclasses.replace(attachment),))
    assert build(first) == build(second)
    assert build(first) != build(dataclasses.replace(first, message_id="<other@mail.example>"))


def test_attachments_come_beside_the_alternatives() -> None:
    files = (
        Attachment("report.pdf", bytes(range(256)) * 20, "application/pdf"),
        Attachment(
            'Übersicht "2026" für alle Freunde des langen Dateinamens.csv', b"a,b", "text/csv"
        ),
        Attachment("日本語.txt", b"", "Text/Plain"),
    )
    message = read(dataclasses.replace(MAIL, attachments=files))
    assert message.get_content_type() == "multipart/mixed"
    found = list(message.iter_attachments())
    assert [part.get_filename() for part in found] == [file.filename for file in files]
    assert [part.get_payload(decode=True) for part in found] == [file.content for file in files]
    assert not any(part.defects for part in message.walk())


@pytest.mark.parametrize(
    ("given", "kind", "parameters"),
    [
        ("text/csv; charset=utf-8", "text/csv", {"charset": "utf-8"}),
        ('Text/Calendar;method=REQUEST ; charset="utf-8"', "text/calendar",
         {"method": "REQUEST", "charset": "utf-8"}),
        (' application/pdf; name="My file; v2.pdf";', "application/pdf",
         {"name": "My file; v2.pdf"}),
    ],
)  # fmt: skip
def test_an_attachments_type_keeps_its_parameters(
    given: str, kind: str, parameters: dict[str, str]
) -> None:
    message = read(dataclasses.replace(MAIL, attachments=(Attachment("a", b"x", given),)))
    (part,) = message.iter_attachments()
    assert part["Content-Type"].content_type == kind
    assert dict(part["Content-Type"].params) == parameters
    assert not part.defects


def test_a_mail_without_html_is_a_single_part() -> None:
    message = read(with_subject("s"))
    assert message.get_content_type() == "text/plain"
    assert body_of(message) == "x\n"


@pytest.mark.parametrize(
    "subject",
    [
        "", " ", "Grüße aus Köln", "日本語の件名" * 30, "👩‍💻" * 40, "plain " * 40, "x" * 2000,
        "=?utf-8?q?not_decoded?=", "a  b   c", "e\u0301" * 60, "tab\there",
    ],
)  # fmt: skip
def test_a_subject_reads_back_as_it_was(subject: str) -> None:
    assert read(with_subject(subject))["Subject"].strip() == subject.strip()


@pytest.mark.parametrize(
    "text", ["a\rb\nc\r\nd", "x" * 5000, "ü" * 3000, "\x00\x01 nul", ".\n..\n."]
)
def test_any_body_reads_back_with_line_ends_normalized(text: str) -> None:
    mail = dataclasses.replace(MAIL, rendered=Rendered("s", text, text))
    expected = text.replace("\r\n", "\n").replace("\r", "\n") + "\n"
    for part in read(mail).iter_parts():
        assert body_of(part) == expected


def test_a_lone_surrogate_in_a_body_is_replaced() -> None:
    mail = dataclasses.replace(MAIL, rendered=Rendered("s", None, "a\ud800b"))
    assert body_of(read(mail)) == "a?b\n"


def test_a_body_cannot_hold_the_boundary() -> None:
    boundary = re.search(rb'boundary="([^"]+)"', build(MAIL))
    assert boundary is not None
    forged = f"--{boundary[1].decode()}--\nforged"
    message = read(dataclasses.replace(MAIL, rendered=Rendered("s", forged, forged)))
    assert [body_of(part) for part in message.iter_parts()] == [forged + "\n"] * 2


def test_names_and_domains_beyond_ascii_are_encoded_without_smtputf8() -> None:
    mail = dataclasses.replace(
        MAIL, to=("Jürgen Groß <j@bücher.example>", '"Lee, Ann" <a@b.example>')
    )
    assert not needs_smtputf8(mail)
    content = build(mail)
    assert content.isascii()
    first, second = email.message_from_bytes(content, policy=email.policy.default)["To"].addresses
    assert (first.display_name, first.addr_spec) == ("Jürgen Groß", "j@xn--bcher-kva.example")
    assert (second.display_name, second.addr_spec) == ("Lee, Ann", "a@b.example")


def test_a_local_part_beyond_ascii_makes_the_headers_utf8() -> None:
    mail = dataclasses.replace(MAIL, to=("Zoë <jürgen@b.example>",))
    assert needs_smtputf8(mail)
    assert "To: Zoë <jürgen@b.example>\r\n".encode() in build(mail)


def test_hundreds_of_recipients_fold_into_legal_lines() -> None:
    people = tuple(f"Person Nümber {n} <p{n}@b.example>" for n in range(300))
    content = build(dataclasses.replace(MAIL, to=people))
    assert max(map(len, content.split(b"\r\n"))) <= 78
    found = email.message_from_bytes(content, policy=email.policy.default)["To"].addresses
    assert [a.addr_spec for a in found] == [f"p{n}@b.example" for n in range(300)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sender": "nobody"}, "from"),
        ({"sender": "a@b.example\r\nBcc: x@y.example"}, "from"),
        ({"to": ("a@b.example\nX: y",)}, "to"),
        ({"cc": ("a\x00@b.example",)}, "cc"),
        ({"reply_to": "a@b.example, "}, "replyTo"),
        ({"message_id": "no brackets@x"}, "messageId"),
        ({"message_id": "<a@b>\r\nX: y"}, "messageId"),
        ({"rendered": Rendered("a\r\nBcc: x@y.example", None, "")}, "subject"),
        ({"rendered": Rendered("a\ud800", None, "")}, "subject"),
        ({"headers": {"X-A": "a\r\nBcc: x@y.example"}}, "headers.X-A"),
        ({"headers": {"X-A": "a\nb"}}, "headers.X-A"),
        ({"headers": {"X-A": "a\rb"}}, "headers.X-A"),
        ({"headers": {"X-A": "a\x00b"}}, "headers.X-A"),
        ({"headers": {"X-A": "a\u2028b"}}, "headers.X-A"),
        ({"headers": {"X-A": "x" * 1000}}, "headers.X-A"),
        ({"headers": {"X-A": "x " * 10000}}, "headers.X-A"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers.x-a"),
        ({"headers": {"X A": "1"}}, "headers.X?A"),
        ({"headers": {"X-A:": "1"}}, "headers.X-A?"),
        ({"headers": {"": "1"}}, "headers."),
        ({"headers": {"X-Ä": "1"}}, "headers.X-?"),
        ({"headers": {"X\r\nBcc": "x@y.example"}}, "headers.X??Bcc"),
        ({"headers": {"X" * 80: "1"}}, "headers." + "X" * 76),
        ({"attachments": (Attachment("a\r\nb", b"", "text/plain"),)}, "attachments[0].filename"),
        ({"attachments": (Attachment("", b"", "text/plain"),)}, "attachments[0].filename"),
        ({"attachments": (Attachment("a", b"", "text"),)}, "attachments[0].contentType"),
        ({"attachments": (Attachment("a", b"", "text/x\r\nX: y"),)}, "attachments[0].contentType"),
        ({"attachments": (Attachment("a", b"", "message/rfc822"),)}, "attachments[0].contentType"),
        ({"attachments": (Attachment("a", b"", "a/b; c"),)}, "attachments[0].contentType"),
        ({"attachments": (Attachment("a", b"", 'a/b; c="d\ne"'),)}, "attachments[0].contentType"),
        ({"attachments": (Attachment("a", b"", "a/b; c=é"),)}, "attachments[0].contentType"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_field(
    change: dict[str, object], field: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        build(dataclasses.replace(MAIL, **change))  # type: ignore[arg-type] # parametrized fields
    assert caught.value.field == field


@pytest.mark.parametrize(
    "name",
    [
        "From", "to", "CC", "Bcc", "subject", "Date", "Message-Id", "MIME-Version", "Content-Type",
        "content-transfer-encoding", "Return-Path", "Received", "DKIM-Signature", "Sender",
        "Reply-To", "Resent-To",
    ],
)  # fmt: skip
def test_reserved_headers_are_refused(name: str) -> None:
    with pytest.raises(PayloadError, match="set by the worker"):
        build(dataclasses.replace(MAIL, headers={name: "x"}))


_hostile = st.text(
    st.one_of(st.characters(), st.sampled_from('\r\n\t\0:,<>@"\\ =?\u2028\x85')), max_size=120
)
_address = st.one_of(_hostile, _hostile.map(lambda name: f"{name} <a@b.example>"))
_names = st.one_of(_hostile, st.from_regex(r"X-[A-Za-z-]{1,20}", fullmatch=True))


@given(
    subject=_hostile,
    sender=_address,
    to=_address,
    reply_to=_address,
    headers=st.dictionaries(_names, _hostile, max_size=3),
)
@example("s", "a@b.example", '"x" <a@b.example>', "a@b.example", {"X-A": "v\r\n\r\nbody"})
def test_header_injection_is_impossible(
    subject: str, sender: str, to: str, reply_to: str, headers: dict[str, str]
) -> None:
    mail = dataclasses.replace(
        MAIL,
        sender=sender,
        to=(to,),
        reply_to=reply_to,
        headers=headers,
        rendered=Rendered(subject, None, "body"),
    )
    try:
        content = build(mail)
    except PayloadError:
        return
    expected = ["From", "To", "Subject", "Date", "Message-ID", *headers, "MIME-Version"]
    if reply_to:
        expected.insert(2, "Reply-To")
    expected += ["Content-Type", "Content-Transfer-Encoding"]
    assert header_lines(content) == expected
    assert email.message_from_bytes(content).keys() == expected
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == b"body\r\n"
    assert b"\r" not in head.replace(b"\r\n", b"")
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=300))
def test_any_legal_subject_reads_back(subject: str) -> None:
    found = read(with_subject(subject))["Subject"]
    assert re.sub(r"\s+", " ", found).strip() == re.sub(r"\s+", " ", subject).strip()


@given(text=st.text(max_size=300), html=st.text(max_size=300))
def test_any_body_gives_crlf_and_short_lines(text: str, html: str) -> None:
    content = build(dataclasses.replace(MAIL, rendered=Rendered("s", html, text)))
    assert content.isascii()
    assert b"\0" not in content
    lines = content.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or len(line) > 998 for line in lines)
    assert len(read(MAIL).get_payload()) == 2
