"""SMTP URLs as endpoints: smtp://, smtps:// (465), smtp+starttls:// (587).

Never shows a user or password, nor a piece of them that was written without its escape.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from campaign_worker.errors import SettingsError

EXAMPLE = "smtp+starttls://user:password@smtp.example.com:587"
_MEND = f"write it as {EXAMPLE}"
_ENCODE = "write @ as %40, / as %2F, # as %23, : as %3A and % as %25 in user and password"
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:.]{2,45}(?:%[\w.-]{1,20})?")
_OPTION = re.compile(r"[A-Za-z_-]{1,30}")


class Security(enum.Enum):
    """How a connection is protected."""

    PLAIN = "smtp"
    """No TLS, unless there is a password and the server offers STARTTLS: then it is used."""

    TLS = "smtps"
    """TLS from the first byte (RFC 8314)."""

    STARTTLS = "smtp+starttls"
    """STARTTLS, or no connection (RFC 3207)."""


_DEFAULT_PORTS = {Security.PLAIN: 25, Security.TLS: 465, Security.STARTTLS: 587}


@dataclass(frozen=True, slots=True)
class SmtpEndpoint:
    """A server and how to talk to it. `repr` and `str` show neither user nor password."""

    host: str
    port: int
    security: Security
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    verify_tls: bool = True

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        login = "***:***@" if self.user is not None else ""
        query = "" if self.verify_tls else "?tls_verify=false"
        return f"{self.security.value}://{login}{host}:{self.port}{query}"


def parse(url: str, setting: str = "SMTP_URL") -> SmtpEndpoint:
    """Read an SMTP URL; user and password are percent-encoded in it.

    Raises errors.SettingsError naming `setting`; its text never holds user or password.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(setting, "is not a URL", f"{_MEND}; {_ENCODE}") from None
    try:
        security = Security(parts.scheme)
    except ValueError:
        schemes = ", ".join(f"{one.value}://" for one in Security)
        raise SettingsError(setting, f"must begin with one of {schemes}", _MEND) from None
    if parts.fragment or parts.path not in {"", "/"}:
        raise SettingsError(setting, "has something after host and port", f"{_MEND}; {_ENCODE}")
    if not host or not _HOST.fullmatch(host):
        raise SettingsError(setting, "has no valid host name", _MEND)
    if port == 0:
        raise SettingsError(setting, "has port 0", _MEND)
    user, password = _credentials(parts.username, parts.password, setting)
    return SmtpEndpoint(
        host=host,
        port=port or _DEFAULT_PORTS[security],
        security=security,
        user=user,
        password=password,
        verify_tls=_verify_tls(parts.query, setting),
    )


def _credentials(
    user: str | None, password: str | None, setting: str
) -> tuple[str | None, str | None]:
    if not user and not password:
        return None, None
    if not user or not password:
        missing = "user" if not user else "password"
        raise SettingsError(setting, f"has credentials without a {missing}", _MEND)
    try:
        plain = unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise SettingsError(setting, "has an escape that is not UTF-8", _ENCODE) from None
    # AUTH PLAIN separates by NUL (RFC 4616); no line of SMTP holds a control character.
    if any(ord(character) < 0x20 or character == "\x7f" for text in plain for character in text):  # noqa: PLR2004
        raise SettingsError(setting, "has a control character in user or password", _ENCODE)
    return plain


def _verify_tls(query: str, setting: str) -> bool:
    verify = True
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "tls_verify":
            # A "?" in a password ends up here: only what looks like an option is shown.
            shown = repr(name) if _OPTION.fullmatch(name) else "after '?'"
            raise SettingsError(setting, f"has an unknown option {shown}", "tls_verify is known")
        if value not in {"true", "false"}:
            raise SettingsError(setting, "has a tls_verify that is neither true nor false")
        verify = value == "true"
    return verify
