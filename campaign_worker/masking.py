"""What a log line may not say: secrets never, addresses and subjects not above debug.

Owns the patterns and the walk over values; knows nothing of logging.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MASK: Final = "***"
ADDRESS: Final = "[address]"
MAX_DEPTH: Final = 6
MAX_CHARACTERS: Final = 32_768

_SECRET_KEY: Final = re.compile(
    r"passw(or)?d|passphrase|secret|token|authorization|api_?key|credential|cookie|signing_key",
    re.IGNORECASE,
)
_PRIVATE_KEYS: Final = frozenset({"subject"})

# userinfo of a URL (RFC 3986, 3.2.1) up to the last "@" of the word, because passwords are often
# pasted unencoded. What follows is kept only if nothing in between can belong to a path.
_URL: Final = re.compile(r"(?<![\w+.-])([A-Za-z][\w+.-]{0,30}://)([^\s\"'<>]{0,512})@([^\s\"'<>]*)")
_ASSIGNMENT: Final = re.compile(
    r"(?i)((?:passw(?:or)?d|passphrase|secret|token|authorization|api[_-]?key)[\"']?\s{0,3}[=:]\s{0,3})"
    r"(?:(?:bearer|basic)\s{1,3})?(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
)
# Atoms of RFC 5322 and RFC 6531 and more: everything up to a delimiter, on both sides of the "@".
# Anchored to the start of a word and possessive, so that hostile input costs linear time.
_EMAIL: Final = re.compile(
    r"(?:\"[^\"\n]{0,128}\"|(?<![^\s@<>()\[\],;:\"])[^\s@<>()\[\],;:\"]++)@"
    r"(?:\[[^\]\s]{1,64}\]|[^\s@<>()\[\],;:\"']++)"
)
_ENCODED_EMAIL: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,200}%40[\w.%-]{1,255}")


def without_secrets(text: str) -> str:
    """Mask the userinfo of URLs and the values of assignments such as `password=...`."""
    if "://" in text and "@" in text:
        text = _URL.sub(_masked_url, text)
    if "=" in text or ":" in text:
        text = _ASSIGNMENT.sub(rf"\1{MASK}", text)
    return text


def without_addresses(text: str) -> str:
    """Replace whatever looks like an e-mail address, also percent-encoded."""
    if "@" in text:
        text = _EMAIL.sub(_masked_address, text)
    if "%40" in text:
        text = _ENCODED_EMAIL.sub(ADDRESS, text)
    return text


def clean(value: Any, *, addresses: bool) -> Any:
    """Return `value` as something JSON can say, masked; `addresses`: whether those may stay.

    Objects become their repr first, so that nothing hides in one. Never raises.
    """
    return _clean(value, _masker(addresses=addresses), addresses=addresses, depth=0)


def _masker(*, addresses: bool) -> Callable[[str], str]:
    def mask(text: str) -> str:
        if len(text) > MAX_CHARACTERS:
            # At a space, so that no half of a secret is left that no pattern knows any more.
            text = text[:MAX_CHARACTERS].rpartition(" ")[0] + " (cut)"
        text = without_secrets(text)
        return text if addresses else without_addresses(text)

    return mask


def _clean(value: Any, mask: Callable[[str], str], *, addresses: bool, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # JSON has no NaN and no infinity; a line with one cannot be read by anybody.
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return {
            mask(str(key)): (
                _hidden(item)
                if is_private(str(key), addresses=addresses)
                else _clean(item, mask, addresses=addresses, depth=depth + 1)
            )
            for key, item in list(value.items())
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < MAX_DEPTH:
        return [_clean(item, mask, addresses=addresses, depth=depth + 1) for item in list(value)]
    if isinstance(value, dt.date | uuid.UUID):
        return str(value)
    return mask(_repr(value))


def is_private(key: str, *, addresses: bool) -> bool:
    """Whether the value of this key is masked whatever it is."""
    return _SECRET_KEY.search(key) is not None or (not addresses and key in _PRIVATE_KEYS)


def _hidden(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else MASK


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a foreign __repr__ may raise anything
        return f"<{type(value).__name__} without a repr: {type(error).__name__}>"


def _masked_url(match: re.Match[str]) -> str:
    scheme, userinfo, rest = match.groups()
    if any(mark in userinfo for mark in "/?#"):
        return f"{scheme}{MASK}"
    return f"{scheme}{MASK}@{rest}"


def _masked_address(match: re.Match[str]) -> str:
    # `//***@host` is what is left of a URL whose password is masked already; the host may stay.
    return match.group() if match.group().startswith(f"//{MASK}@") else ADDRESS
