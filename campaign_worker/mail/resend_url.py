"""Resend's API as a transport URL: resend+https://:API_KEY@api.resend.com.

Never shows the key. resend+http:// is for servers on the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from campaign_worker.errors import SettingsError

EXAMPLE = "resend+https://:API_KEY@api.resend.com"
SCHEMES = ("resend+https", "resend+http")
_MEND = f"write it as {EXAMPLE}"


@dataclass(frozen=True, slots=True)
class ResendEndpoint:
    """Where the API is (`base_url` without a slash at its end), and the key it wants."""

    base_url: str
    api_key: str = field(repr=False)

    def __str__(self) -> str:
        scheme, _, host = self.base_url.partition("://")
        return f"resend+{scheme}://:***@{host}"


def is_resend(url: str) -> bool:
    """Whether a transport URL is one of these."""
    return url.strip().partition("://")[0].lower() in SCHEMES


def parse(url: str, setting: str = "SMTP_URL") -> ResendEndpoint:
    """Read a URL; the key stands where a password does, percent-encoded.

    Raises errors.SettingsError naming `setting`; its text never holds the key.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(setting, "is not a URL", _MEND) from None
    if parts.scheme not in SCHEMES:
        schemes = ", ".join(f"{one}://" for one in SCHEMES)
        raise SettingsError(setting, f"must begin with one of {schemes}", _MEND)
    if not host or port == 0:
        raise SettingsError(setting, "has no valid host name and port", _MEND)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SettingsError(setting, "has something after host and port", _MEND)
    if parts.username:
        raise SettingsError(setting, "has a user; the key stands after the colon", _MEND)
    return ResendEndpoint(_base(parts.scheme, host, port), _key(parts.password, setting))


def _base(scheme: str, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme.removeprefix('resend+')}://{shown}" + (f":{port}" if port else "")


def _key(text: str | None, setting: str) -> str:
    key = unquote(text or "")
    # It becomes the value of a header.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(setting, "has no API key of printable ASCII characters", _MEND)
    return key
