"""Header lines of a message: checked, encoded (RFC 2047), folded (RFC 5322), never injectable.

Owns every byte between a field name and its CRLF. The same input gives the same bytes on every
Python, which the folding of `email.policy` does not promise.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterable

from campaign_worker.errors import AddressError, PayloadError
from campaign_worker.mail.address import Address, check_characters, parse_list, quoted_phrase

MAX_LINE = 998
MAX_FIELD_NAME = 76
MAX_VALUE = 16_000
FOLD_AT = 78
# A line with an encoded word has at most 76 characters (RFC 2047, 2): "Subject: ", 12, and 52.
_WORD_BYTES = 39
_LONG_WORD = 900

_TOKEN = re.compile(r"[!-9;-~]+")
_RESERVED = frozenset({
    "from", "to", "cc", "bcc", "subject", "date", "message-id", "reply-to", "sender",
    "return-path", "received", "dkim-signature", "authentication-results", "arc-seal",
    "arc-message-signature", "arc-authentication-results", "delivered-to",
})  # fmt: skip
_RESERVED_PREFIXES = ("mime-", "content-", "resent-")


def check_name(name: str) -> str:
    """Give back a field name that a caller may set, or raise errors.PayloadError naming it."""
    shown = "".join(c if _TOKEN.fullmatch(c) else "?" for c in name[:MAX_FIELD_NAME])
    field = f"headers.{shown}"
    if not _TOKEN.fullmatch(name) or len(name) > MAX_FIELD_NAME:
        raise PayloadError(field, "a header name is printable ASCII without space or colon")
    if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
        raise PayloadError(field, "this header is set by the worker and may not be given")
    return name


def unstructured(name: str, value: str, field: str, *, utf8: bool = False) -> bytes:
    """Give the line of a free-text field such as Subject.

    Raises errors.PayloadError naming `field` for characters that no header may hold and for
    words that no line can hold.
    """
    check_value(value, field)
    return fold(name, value.split(" ") if _plain(value, utf8=utf8) else encoded_words(value), field)


def subject(value: str, *, utf8: bool = False) -> bytes:
    """Give the Subject line; a word too long for any line is encoded rather than refused."""
    check_value(value, "subject")
    words = value.split(" ")
    plain = _plain(value, utf8=utf8) and all(len(word.encode()) < _LONG_WORD for word in words)
    return fold("Subject", words if plain else encoded_words(value), "subject")


def _plain(text: str, *, utf8: bool) -> bool:
    # What looks like an encoded word would be decoded by readers: it is encoded to be seen as is.
    return (utf8 or text.isascii()) and "=?" not in text


def check_value(value: str, field: str) -> None:
    """Refuse line breaks, controls, lone surrogates and absurd lengths; names `field`."""
    if len(value) > MAX_VALUE:
        raise PayloadError(field, f"longer than {MAX_VALUE} characters")
    try:
        # A tab is legal white space in a header; senders of JSON do use it.
        check_characters(value.replace("\t", " "))
    except AddressError as error:
        raise PayloadError(field, str(error)) from None


def mailboxes(name: str, texts: Iterable[str], field: str, *, utf8: bool = False) -> bytes:
    """Give the line of an address field. Raises errors.PayloadError naming `field`."""
    try:
        found = [address for text in texts for address in parse_list(text)]
    except AddressError as error:
        raise PayloadError(field, str(error)) from None
    words: list[str] = []
    for position, address in enumerate(found):
        comma = "," if position < len(found) - 1 else ""
        words += _mailbox_words(address, field, comma, utf8=utf8)
    return fold(name, words, field)


def _mailbox_words(address: Address, field: str, comma: str, *, utf8: bool) -> list[str]:
    if address.needs_smtputf8 and not utf8:
        raise PayloadError(field, "the part before '@' is not ASCII and SMTPUTF8 is not in use")
    name = address.display_name
    if not name:
        return [address.envelope + comma]
    phrase = quoted_phrase(name).split(" ") if _plain(name, utf8=utf8) else encoded_words(name)
    return [*phrase, f"<{address.envelope}>{comma}"]


def encoded_words(text: str) -> list[str]:
    """Split text into RFC 2047 encoded words (UTF-8, base64), never inside a character."""
    words: list[str] = []
    chunk = b""
    for character in text:
        encoded = character.encode()
        # A combining mark stays with its letter where there is room; readers then draw it right.
        if len(chunk) + len(encoded) > _WORD_BYTES - 3 * (not unicodedata.combining(character)):
            words.append(_encoded_word(chunk))
            chunk = b""
        chunk += encoded
    if chunk or not words:
        words.append(_encoded_word(chunk))
    return words


def _encoded_word(chunk: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(chunk).decode('ascii')}?="


def fold(name: str, words: list[str], field: str) -> bytes:
    """Join words with single spaces, breaking lines before they grow beyond 78 characters.

    A line is broken only after and before something visible: lines of white space alone, and
    `Name:` alone, are read differently by different servers (RFC 5322, 3.2.2).
    """
    lines: list[str] = []
    line = f"{name}:"
    visible = False
    for word in words:
        if visible and word and not word.isspace() and len(line) + 1 + len(word) > FOLD_AT:
            lines.append(line)
            line = ""
            visible = False
        line += f" {word}"
        visible = visible or bool(word.strip())
    lines.append(line)
    if any(len(part.encode()) > MAX_LINE for part in lines):
        raise PayloadError(field, f"a word is longer than a line of {MAX_LINE} characters can hold")
    return "\r\n".join(lines).encode() + b"\r\n"
