"""Tokens of tracking links: short, URL-safe, signed. What a link does is read from nothing else.

Layout, in base64url without padding (RFC 4648, 5): a byte of version and content, two bytes that
tell the key, the message as a varint, the link as a varint or the destination as UTF-8, and twelve
bytes of HMAC-SHA256 (RFC 2104, section 5, on truncation). Never looks anything up.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from campaign_worker.errors import InvalidToken
from campaign_worker.settings.kinds import SigningKey

MAX_DESTINATION = 4096
"""Bytes of a destination that travels in a token; its URL stays below the 8 kB of servers."""

MAX_ID = 2**63 - 1
"""Ids are Postgres' bigint."""

_MAC_BYTES = 12
_KEY_BYTES = 2
_HEAD_BYTES = 1 + _KEY_BYTES
_MAX_BYTES = _HEAD_BYTES + 9 + MAX_DESTINATION + _MAC_BYTES
_MAX_TEXT = (_MAX_BYTES * 4 + 2) // 3
# The bits that base64 leaves over are zero: no token has a second spelling (RFC 4648, 3.5).
_TEXT = re.compile(
    r"(?:[A-Za-z0-9_-]{4}){5,}(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?"
)
_STANDARD = bytes.maketrans(b"-_", b"+/")
# What this key signs elsewhere can never be taken for a token.
_PURPOSE = b"campaign-worker tracking 1\0"
_MORE = 0x80


class TokenKind(enum.Enum):
    """What a link is for; its route accepts no other."""

    OPEN = 1
    CLICK = 2
    UNSUBSCRIBE = 3


class _Carries(enum.Enum):
    """What follows the message's id."""

    NOTHING = 0
    LINK = 4
    DESTINATION = 8


_FIRST_BYTES = {
    kind.value | carries.value: (kind, carries) for kind in TokenKind for carries in _Carries
}


@dataclass(frozen=True, slots=True)
class Token:
    """What a tracking link says. A click has a link's id or a destination, the others neither.

    Ids are 1 to MAX_ID; a destination is an http(s) URL in ASCII of at most MAX_DESTINATION bytes.
    Raises ValueError for anything else.
    """

    kind: TokenKind
    message_id: int
    link_id: int | None = None
    destination: str | None = None

    def __post_init__(self) -> None:
        """Hold what the docstring says."""
        if not 1 <= self.message_id <= MAX_ID:
            raise ValueError("a message's id is a positive bigint")
        if self.link_id is not None and not 1 <= self.link_id <= MAX_ID:
            raise ValueError("a link's id is a positive bigint")
        if self.destination is not None and not may_be_signed(self.destination):
            raise ValueError("a destination is a plain http(s) URL")
        targets = (self.link_id is not None) + (self.destination is not None)
        if targets != (self.kind is TokenKind.CLICK):
            raise ValueError("a click has one target, nothing else has any")


_DESTINATION = re.compile(r"https?://[!-~]+")


def may_be_signed(url: str) -> bool:
    """Whether a token can carry this URL: http or https, printable ASCII, not too long."""
    return len(url) <= MAX_DESTINATION and _DESTINATION.fullmatch(url) is not None


class Keyring:
    """Signs with the first key, reads what any of them has signed."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        if not keys:
            raise ValueError("no key to sign with")
        # Each is the state after the key and the purpose: what goes on from there is a copy.
        self._keys = [
            (_tag(key.id), hmac.new(key.secret.encode(), _PURPOSE, "sha256")) for key in keys
        ]

    def sign(self, token: Token) -> str:
        """Give the token's text; the same token and key always give the same."""
        tag, begun = self._keys[0]
        if token.link_id is not None:
            carries, rest = _Carries.LINK, _varint(token.link_id)
        elif token.destination is not None:
            carries, rest = _Carries.DESTINATION, token.destination.encode("ascii")
        else:
            carries, rest = _Carries.NOTHING, b""
        head = bytes((token.kind.value | carries.value,)) + tag
        body = head + _varint(token.message_id) + rest
        return _text(body + _mac(begun, body))

    def read(self, kind: TokenKind, text: str) -> Token:
        """Read a token of this kind. Raises errors.InvalidToken for all that we have not signed."""
        if len(text) > _MAX_TEXT or not _TEXT.fullmatch(text):
            raise InvalidToken("malformed")
        data = binascii.a2b_base64(text.encode("ascii").translate(_STANDARD) + b"==")
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        self._check(body, mac)
        try:
            token = _parsed(body)
        except ValueError:
            raise InvalidToken("of another version") from None
        if token.kind is not kind:
            raise InvalidToken("of another kind")
        return token

    def _check(self, body: bytes, mac: bytes) -> None:
        tag = body[1:_HEAD_BYTES]
        known = False
        for own, begun in self._keys:
            if own == tag:
                known = True
                if hmac.compare_digest(_mac(begun, body), mac):
                    return
        raise InvalidToken("not signed by us" if known else "of an unknown key")


def _tag(key_id: str) -> bytes:
    """Shorten a key's id; two keys with the same tag are tried one after the other."""
    return hashlib.sha256(key_id.encode()).digest()[:_KEY_BYTES]


def _mac(begun: hmac.HMAC, body: bytes) -> bytes:
    mac = begun.copy()
    mac.update(body)
    return mac.digest()[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _parsed(body: bytes) -> Token:
    """Read what was signed. Raises ValueError for what only another version could have written."""
    try:
        kind, carries = _FIRST_BYTES[body[0]]
    except KeyError:
        raise ValueError("another version's") from None
    message_id, rest = _read_varint(body[_HEAD_BYTES:])
    match carries:
        case _Carries.NOTHING:
            if rest:
                raise ValueError("something follows")
            return Token(kind, message_id)
        case _Carries.LINK:
            link_id, rest = _read_varint(rest)
            if rest:
                raise ValueError("something follows")
            return Token(kind, message_id, link_id=link_id)
        case _Carries.DESTINATION:
            return Token(kind, message_id, destination=rest.decode("ascii"))


def _varint(number: int) -> bytes:
    """Write base 128, the lowest group first, a high bit on all but the last (as LEB128)."""
    groups = bytearray()
    while number >= _MORE:
        groups.append(number & (_MORE - 1) | _MORE)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_varint(data: bytes) -> tuple[int, bytes]:
    number = 0
    for place, byte in enumerate(data[:9]):
        number |= (byte & (_MORE - 1)) << (7 * place)
        if byte < _MORE:
            return number, data[place + 1 :]
    raise ValueError("a number without an end")
