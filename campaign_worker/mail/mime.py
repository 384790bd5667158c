"""A Mail as the bytes of a message (RFC 5322, MIME): deterministic, CRLF, 7-bit, no Bcc.

Never reads a clock or a random number: a resend is byte-identical. Writes the structure itself,
because `email.message` takes 1.4 ms for 10 kB (this: 0.2) and folds differently from one Python
to the next; the standard library's codecs do the encoding and its parser checks us in the tests.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import re
from collections.abc import Iterator

from campaign_worker.delivery.model import Attachment, Mail
from campaign_worker.errors import AddressError, PayloadError
from campaign_worker.mail import header
from campaign_worker.mail.address import parse_list

MAX_BODY_LINE = 990
MAX_FILENAME = 255
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}@[!-;=?-~]{1,250}>")
# RFC 2045, 5.1: a type, and its parameters, such as charset or the method of an invitation.
_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*([\w.+!#$&^-]{1,60}=(?:[\w.+!#$&^-]{1,100}|\"[ !#-\[\]-~]{0,100}\"))", re.ASCII
)
_TYPE = re.compile(
    r"([A-Za-z0-9][\w.+!#$&^-]{0,99}/[A-Za-z0-9][\w.+!#$&^-]{0,99})"
    rf"((?:{_PARAMETER.pattern}){{0,10}})[ \t]*;?",
    re.ASCII,
)
# NUL and other controls, bare CR, all beyond ASCII, and "=_" which begins every boundary.
_NOT_7BIT = re.compile(r"[^\t\n -~]|=_")
_SHORT_FILENAME = 60
_FILENAME_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


def build(mail: Mail) -> bytes:
    """Give the message as SMTP takes it, before dot-stuffing.

    The same Mail gives the same bytes. Raises errors.PayloadError naming the field at fault.
    """
    parts = [*_headers(mail, utf8=needs_smtputf8(mail))]
    body = _body(mail)
    if mail.attachments:
        attached = (_attachment(item, n) for n, item in enumerate(mail.attachments))
        body = _multipart("mixed", _boundary(mail, "mixed"), [body, *attached])
    return b"".join(parts) + body


def needs_smtputf8(mail: Mail) -> bool:
    """Whether a header of this mail needs SMTPUTF8 (RFC 6531): a local part is not ASCII."""
    texts = [mail.sender, *mail.to, *mail.cc, *([mail.reply_to] if mail.reply_to else [])]
    try:
        return any(
            address.needs_smtputf8
            for text in texts
            if not text.isascii()
            for address in parse_list(text)
        )
    except AddressError:
        # The field at fault is named where its header is written.
        return False


def _headers(mail: Mail, *, utf8: bool) -> Iterator[bytes]:
    yield header.mailboxes("From", [mail.sender], "from", utf8=utf8)
    if mail.to:
        yield header.mailboxes("To", mail.to, "to", utf8=utf8)
    if mail.cc:
        yield header.mailboxes("Cc", mail.cc, "cc", utf8=utf8)
    if mail.reply_to:
        yield header.mailboxes("Reply-To", [mail.reply_to], "replyTo", utf8=utf8)
    yield header.subject(mail.rendered.subject, utf8=utf8)
    yield f"Date: {email.utils.format_datetime(mail.date)}\r\n".encode("ascii")
    if not _MESSAGE_ID.fullmatch(mail.message_id):
        raise PayloadError("messageId", "a Message-ID is <left@right> in printable ASCII")
    yield f"Message-ID: {mail.message_id}\r\n".encode("ascii")
    yield from _extra_headers(mail.headers, utf8=utf8)
    yield b"MIME-Version: 1.0\r\n"


def _extra_headers(headers: dict[str, str], *, utf8: bool) -> Iterator[bytes]:
    seen: set[str] = set()
    for name, value in headers.items():
        field = f"headers.{header.check_name(name)}"
        if name.lower() in seen:
            raise PayloadError(field, "given twice")
        seen.add(name.lower())
        yield header.unstructured(name, value, field, utf8=utf8)


def _body(mail: Mail) -> bytes:
    text = _text_part("plain", mail.rendered.text)
    if mail.rendered.html is None:
        return text
    html = _text_part("html", mail.rendered.html)
    return _multipart("alternative", _boundary(mail, "alternative"), [text, html])


def _boundary(mail: Mail, level: str) -> str:
    # "=_" can stand neither in quoted-printable nor in base64 (RFC 2045, 6.7).
    return f"=_{hashlib.sha256(f'{level} {mail.message_id}'.encode()).hexdigest()[:40]}"


def _multipart(subtype: str, boundary: str, parts: list[bytes]) -> bytes:
    opening = f"--{boundary}\r\n".encode("ascii")
    head = f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n\r\n'.encode("ascii")
    inner = b"\r\n".join(opening + part for part in parts)
    return head + inner + f"\r\n--{boundary}--\r\n".encode("ascii")


def _text_part(subtype: str, text: str) -> bytes:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    encoding, content = _encoded(text)
    head = (
        f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return head.encode("ascii") + content


def _encoded(text: str) -> tuple[str, bytes]:
    """Choose the transfer encoding: 7bit where it may stand as it is, else the shorter one."""
    if not text.endswith("\n"):
        text += "\n"
    longest = max(map(len, text.split("\n")))
    if longest <= MAX_BODY_LINE and not _NOT_7BIT.search(text):
        return "7bit", text.replace("\n", "\r\n").encode("ascii")
    # JSON can carry lone surrogates; no encoding of a mail can.
    data = text.encode("utf-8", "replace")
    quoted = binascii.b2a_qp(data, istext=True)
    if len(quoted) <= len(data) * 4 // 3:
        return "quoted-printable", quoted.replace(b"\n", b"\r\n")
    return "base64", _base64(data.replace(b"\n", b"\r\n"))


def _base64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _attachment(item: Attachment, position: int) -> bytes:
    field = f"attachments[{position}]"
    kind = _content_type(item.content_type, f"{field}.contentType")
    if len(item.filename) > MAX_FILENAME or not item.filename:
        raise PayloadError(f"{field}.filename", f"1 to {MAX_FILENAME} characters are expected")
    header.check_value(item.filename, f"{field}.filename")
    head = (
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment;\r\n {_filename(item.filename)}\r\n\r\n"
    )
    return head.encode("ascii") + _base64(item.content)


def _content_type(text: str, field: str) -> str:
    found = _TYPE.fullmatch(text.strip(" \t"))
    kind = "" if found is None else found[1].lower()
    if found is None or kind.startswith(("multipart/", "message/")):
        raise PayloadError(field, "a MIME type such as application/pdf is expected")
    return ";\r\n ".join([kind, *_PARAMETER.findall(found[2])])


def _filename(name: str) -> str:
    """Write the filename parameter: quoted if plain ASCII, else by RFC 2231 in pieces that fit."""
    if name.isascii() and len(name) <= _SHORT_FILENAME and not set(name) & set('"\\\t'):
        return f'filename="{name}"'
    codes = [chr(b) if b in _FILENAME_SAFE else f"%{b:02X}" for b in name.encode()]
    pieces = ["".join(codes[start : start + 18]) for start in range(0, len(codes), 18)]
    pieces[0] = f"utf-8''{pieces[0]}"
    if len(pieces) == 1:
        return f"filename*={pieces[0]}"
    return ";\r\n ".join(f"filename*{n}*={piece}" for n, piece in enumerate(pieces))
