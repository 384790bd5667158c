"""Addresses: parsed from people's spellings, checked, given back as SMTP and headers need them.

Owns what may stand in an envelope or an address header. Never resolves a domain, never guesses.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass

import idna

from campaign_worker.errors import AddressError

MAX_LOCAL_OCTETS = 64
MAX_DOMAIN_OCTETS = 255
MAX_PATH_OCTETS = 254
MAX_DISPLAY_NAME = 500
MAX_LIST_LENGTH = 100_000

# RFC 5322 atext, plus everything above ASCII (RFC 6532); forbidden code points are refused earlier.
_DOT_ATOM = re.compile(
    r"[\w!#$%&'*+/=?^`{|}~\-\u0080-\U0010ffff]+(?:\.[\w!#$%&'*+/=?^`{|}~\-\u0080-\U0010ffff]+)*"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PLAIN_NAME = re.compile(r"[\w!#$%&'*+/=?^`{|}~ \-\u0080-\U0010ffff]*")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. `local` is unquoted, `domain_ascii` lower case with A-labels (RFC 5890)."""

    display_name: str
    local: str
    domain_ascii: str

    @property
    def envelope(self) -> str:
        """The bare address as MAIL and RCPT carry it, without angle brackets (RFC 5321, 4.1.2)."""
        return f"{_quoted_local(self.local)}@{self.domain_ascii}"

    @property
    def header(self) -> str:
        """The header form in Unicode, `Name <a@b>`; `parse` of it gives the same Address."""
        if not self.display_name:
            return self.envelope
        return f"{quoted_phrase(self.display_name)} <{self.envelope}>"

    @property
    def normalized(self) -> str:
        """The key of suppression lookups: NFC and lower case, domain as A-labels."""
        return f"{unicodedata.normalize('NFC', self.local).lower()}@{self.domain_ascii}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether it takes a server with SMTPUTF8 (RFC 6531): the local part is not ASCII."""
        return not self.local.isascii()


def parse(text: str) -> Address:
    """Read exactly one `a@b` or `Name <a@b>`.

    Raises errors.AddressError, whose text never holds the address.
    """
    found = parse_list(text)
    if len(found) != 1:
        raise AddressError(f"one address is expected, {len(found)} are given")
    return found[0]


def parse_list(text: str) -> tuple[Address, ...]:
    """Read a comma-separated list of at least one address (RFC 5322, 3.4; no groups, no comments).

    Raises errors.AddressError naming the position of the first item at fault.
    """
    if len(text) > MAX_LIST_LENGTH:
        raise AddressError(f"a list of addresses is longer than {MAX_LIST_LENGTH} characters")
    check_characters(text)
    items = _split(text)
    if len(items) == 1:
        return (_mailbox(items[0]),)
    found = []
    for position, item in enumerate(items, start=1):
        try:
            found.append(_mailbox(item))
        except AddressError as error:
            raise AddressError(f"address {position} of {len(items)}: {error}") from None
    return tuple(found)


def check_characters(text: str) -> None:
    """Refuse what no header may hold: CR, LF, NUL and other controls, lone surrogates, U+2028.

    Raises errors.AddressError naming the code point and its position.
    """
    if text.isascii() and text.isprintable():
        return
    for position, character in enumerate(text):
        if unicodedata.category(character) in _FORBIDDEN:
            raise AddressError(
                f"character U+{ord(character):04X} at position {position + 1} is not allowed"
            )


def tidy_name(name: str) -> str:
    """Make a display name of any text: imported ones bring tabs and line ends. It may be empty."""
    if not name.isprintable():
        name = "".join(" " if unicodedata.category(one) in _FORBIDDEN else one for one in name)
    return " ".join(name.split())[:MAX_DISPLAY_NAME].rstrip()


def quoted_phrase(name: str) -> str:
    """Write a display name as an RFC 5322 phrase: bare if it may stand so, else a quoted string."""
    if _PLAIN_NAME.fullmatch(name) and name == " ".join(name.split(" ")).strip():
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside quotes and angle brackets; one pass."""
    items: list[str] = []
    start = 0
    quoted = escaped = angle = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character in "<>":
            angle = character == "<"
        elif character == "," and not angle:
            items.append(text[start:position])
            start = position + 1
    if quoted:
        raise AddressError("a quotation mark is not closed")
    items.append(text[start:])
    return items


def _mailbox(text: str) -> Address:
    text = text.strip()
    if not text:
        raise AddressError("an address is empty")
    if not text.endswith(">"):
        return _address("", text)
    opening = _opening(text)
    return _address(_display_name(text[:opening].strip()), text[opening + 1 : -1].strip())


def _opening(text: str) -> int:
    """Find the '<' outside quotes."""
    quoted = escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == "<":
            return position
        else:
            quoted = character == '"'
    raise AddressError("'>' stands without '<'")


def _display_name(text: str) -> str:
    if text.startswith('"'):
        name = _unquote(text)
    elif any(character in '<>"\\' for character in text):
        raise AddressError("the display name must be quoted")
    else:
        name = text
    if len(name) > MAX_DISPLAY_NAME:
        raise AddressError(f"the display name is longer than {MAX_DISPLAY_NAME} characters")
    return name


def _unquote(text: str) -> str:
    """Read one RFC 5322 quoted string that must fill the whole text."""
    characters: list[str] = []
    escaped = False
    for position, character in enumerate(text[1:], start=1):
        if escaped:
            characters.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            if position != len(text) - 1:
                raise AddressError("something follows a closing quotation mark")
            return "".join(characters)
        else:
            characters.append(character)
    raise AddressError("a quotation mark is not closed")


def _address(display_name: str, text: str) -> Address:
    local_text, at, domain_text = text.rpartition("@")
    if not at:
        raise AddressError("'@' is missing")
    local = _local(local_text)
    address = Address(display_name, local, _domain(domain_text))
    if len(address.envelope.encode()) > MAX_PATH_OCTETS:
        raise AddressError(f"the address is longer than {MAX_PATH_OCTETS} octets")
    return address


def _local(text: str) -> str:
    if not text:
        raise AddressError("the part before '@' is empty")
    if text.startswith('"'):
        local = _unquote(text)
        if not local:
            raise AddressError("the part before '@' is empty")
    elif _DOT_ATOM.fullmatch(text) and not any(character.isspace() for character in text):
        local = text
    else:
        raise AddressError("the part before '@' has a character or a dot that may not stand there")
    if len(_quoted_local(local).encode()) > MAX_LOCAL_OCTETS:
        raise AddressError(f"the part before '@' is longer than {MAX_LOCAL_OCTETS} octets")
    return local


def _quoted_local(local: str) -> str:
    if _DOT_ATOM.fullmatch(local) and not any(character.isspace() for character in local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _domain(text: str) -> str:
    """Check a domain and give its lower-case A-label form (UTS 46, non-transitional)."""
    if not text:
        raise AddressError("the domain is empty")
    if len(text) > MAX_DOMAIN_OCTETS:
        raise AddressError(f"the domain is longer than {MAX_DOMAIN_OCTETS} octets")
    if text.startswith("["):
        return _literal(text)
    if text.isascii():
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            raise AddressError("the domain is not a valid internationalized name") from None
    labels = domain.split(".")
    if len(domain) > MAX_DOMAIN_OCTETS or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError("the domain has a label that is empty, too long or not a host name")
    if labels[-1].isdigit():
        raise AddressError("the domain ends in a number")
    return domain


def _literal(text: str) -> str:
    """Check an address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3)."""
    inner = text[1:-1] if text.endswith("]") else ""
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise AddressError("the domain is not a valid address literal") from None
