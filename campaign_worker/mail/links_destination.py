"""Where a link leads, written so that it fits a token, a row and a Location header: plain ASCII.

Does what a browser does with what stands in an attribute (URL standard, 4.4); anything that is not
plainly http or https is left to others.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import idna

from campaign_worker.tracking.tokens import may_be_signed

_ENDS = "".join(map(chr, range(0x21)))
_BREAKS = dict.fromkeys(map(ord, "\t\n\r"))
_PARTS = re.compile(r"(https?)://([^/?#\\]+)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"([^@:\[\]%]+)((?::[0-9]*)?)")
# Everything printable but what a browser would escape anyway.
_KEPT = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in '"<>`')


def trackable(text: str) -> str | None:
    """Give the destination of a link's decoded text, or None where the link is to stay as it is."""
    found = _PARTS.fullmatch(text.strip(_ENDS).translate(_BREAKS))
    if found is None:
        return None
    scheme, authority, rest = found.groups()
    try:
        host = authority if authority.isascii() else _ascii(authority)
        url = f"{scheme.lower()}://{host}{rest if _is_plain(rest) else _escaped(rest)}"
    except ValueError:
        return None
    return url if may_be_signed(url) else None


def _is_plain(rest: str) -> bool:
    return rest.isascii() and not any(char in rest for char in ' "<>`')


def _escaped(rest: str) -> str:
    """Escape as a browser does. Raises ValueError for controls and lone surrogates."""
    if any(char < " " for char in rest):
        raise ValueError("a control character")
    return quote(rest, safe=_KEPT)


def _ascii(authority: str) -> str:
    found = _HOST.fullmatch(authority)
    if found is None:
        raise ValueError("not a plain host")
    # idna.IDNAError is a ValueError.
    return idna.encode(found[1], uts46=True).decode("ascii") + found[2]
