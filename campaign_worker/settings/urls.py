"""Reads the URLs of Redis, Postgres, SMTP and tracking as apps and platforms write them.

Takes out what our drivers do not know. Never puts a URL, or a piece of one, into an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from campaign_worker.settings.kinds import SecretUrl, Wrong

_PORT_MAX = 65535
_ENCODE = "percent-encode / ? # @ : in user and password (%2F %3F %23 %40 %3A)"
_SECRET_ARGUMENTS = {"password", "sslpassword", "passfile"}

# What queue/connection takes. Timeouts, pools and retries are the worker's own business.
_REDIS_KNOWN = {
    *("username", "password", "db", "protocol"),
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"),
}
_REDIS_VALUES = {
    "db": re.compile(r"[0-9]{1,9}"),
    "protocol": re.compile(r"[23]"),
    "ssl_cert_reqs": re.compile(r"none|optional|required"),
}
# `family` is ioredis': 0 means IPv4 and IPv6, which is what redis-py does anyway.
_REDIS_SILENT = {"family"}

# asyncpg sends every argument that it does not know to Postgres as a run-time parameter.
_POSTGRES_KNOWN = {
    *("host", "port", "user", "password", "passfile", "dbname", "database", "service"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
    *("krbsrvname", "gsslib", "application_name", "options"),
}
_TLS_VERSION = re.compile(r"TLSv1(\.[123])?")
_POSTGRES_VALUES = {
    "port": re.compile(r"[0-9]{1,5}(,[0-9]{1,5})*"),
    "sslnegotiation": re.compile(r"postgres|direct"),
    "ssl_min_protocol_version": _TLS_VERSION,
    "ssl_max_protocol_version": _TLS_VERSION,
    "target_session_attrs": re.compile(
        r"any|primary|standby|prefer-standby|read-write|read-only"  # libpq, 32.1.2
    ),
}
# Prisma's, node-postgres', libpq's: they steer those clients, and mean nothing to this one.
_POSTGRES_SILENT = {
    *("schema", "connection_limit", "pool_timeout", "socket_timeout", "connect_timeout"),
    *("statement_cache_size", "sslaccept", "sslidentity", "uselibpqcompat", "channel_binding"),
    *(
        "pgbouncer",
        "ssl",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
    ),
}
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+$")
_TRUE = {"1", "true", "yes", "require"}


@dataclass(frozen=True, slots=True)
class _Parts:
    """A URL taken apart without trusting it; `hosts` follows the last @ of the authority."""

    scheme: str
    user: str | None
    password: str | None
    hosts: str
    path: str
    query: tuple[tuple[str, str], ...]

    def value(self, query: list[tuple[str, str]]) -> str:
        """Return the URL with another query."""
        login = "" if self.user is None else self.user
        if self.password is not None:
            login += f":{self.password}"
        authority = f"{login}@{self.hosts}" if login else self.hosts
        rest = self.path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        return f"{self.scheme}://{authority}{rest}"

    def masked(self, query: list[tuple[str, str]]) -> str:
        """Return the URL with another query, and *** where a secret stood."""
        login = self.user or ""
        if self.password is not None:
            login += ":***"
        authority = f"{login}@{self.hosts}" if login else self.hosts
        shown = "&".join(f"{k}={'***' if k in _SECRET_ARGUMENTS else v}" for k, v in query)
        return f"{self.scheme}://{authority}{self.path}" + (f"?{shown}" if shown else "")


def _take_apart(text: str, example: str) -> _Parts:
    text = text.strip()
    if any(ord(char) <= ord(" ") or ord(char) == 127 for char in text):  # noqa: PLR2004 -- DEL
        raise Wrong(
            "contains a space, a line break or a control character", f"write it as {example}"
        )
    if "://" not in text:
        raise Wrong("is not a URL", f"write it as {example}")
    try:
        split = urlsplit(text)
    except ValueError:
        raise Wrong("is not a valid URL", _ENCODE) from None
    if split.fragment or "@" in split.path + split.query:
        raise Wrong("is cut off by a character that has a meaning in URLs", _ENCODE)
    login, at, hosts = split.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    try:
        query = tuple(
            parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
        )
    except ValueError:
        raise Wrong(
            "has a query that cannot be read", "write it as ?name=value&name=value"
        ) from None
    return _Parts(
        split.scheme.lower(),
        user if at else None,
        password if colon else None,
        hosts,
        split.path,
        query,
    )


def _check_scheme(parts: _Parts, allowed: tuple[str, ...], example: str) -> None:
    if parts.scheme not in allowed:
        schemes = ", ".join(f"{scheme}://" for scheme in allowed)
        raise Wrong(f"must begin with one of {schemes}", f"write it as {example}")


def _check_host(hosts: str, example: str) -> None:
    """Check `host[:port]`, `[v6]:port`, or several of them with commas between."""
    for each in hosts.split(","):
        host, _, port = each.rpartition(":") if re.search(r":[^\]]*$", each) else (each, "", "")
        if not host:
            raise Wrong("names no host", f"write it as {example}")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise Wrong("has a host that cannot be read", _ENCODE)
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MAX):
            raise Wrong("has a port that is no number from 1 to 65535", _ENCODE)


def _check_values(
    query: list[tuple[str, str]], allowed: Mapping[str, re.Pattern[str]], example: str
) -> None:
    for name, value in query:
        if name in allowed and not allowed[name].fullmatch(value):
            raise Wrong(f"has a {name} that cannot be used", f"write it as {example}")


def redis_url(text: str) -> SecretUrl:
    """Read redis://, rediss:// or unix://; raises Wrong."""
    example = "redis://user:password@host:6379/0"
    parts = _take_apart(text, example)
    _check_scheme(parts, ("redis", "rediss", "unix"), example)
    if parts.scheme == "unix":
        if len(parts.path) <= 1:
            raise Wrong("names no socket", "write it as unix:///path/to/redis.sock?db=0")
    else:
        _check_host(parts.hosts, example)
        if not re.fullmatch(r"/?\d*", unquote(parts.path)):
            raise Wrong("names a database that is no number", f"write it as {example}")
    kept = [(key, value) for key, value in parts.query if key in _REDIS_KNOWN]
    _check_values(kept, _REDIS_VALUES, example)
    strangers = {key for key, _ in parts.query} - _REDIS_KNOWN - _REDIS_SILENT
    return SecretUrl(parts.value(kept), parts.masked(kept), tuple(sorted(strangers)))


def _ssl_mode(query: tuple[tuple[str, str], ...]) -> str | None:
    """Translate node-postgres' `ssl=true` and `sslmode=no-verify` into libpq's words."""
    arguments = dict(query)
    mode = arguments.get("sslmode")
    if mode is None:
        ssl = arguments.get("ssl")
        return None if ssl is None else "require" if ssl.lower() in _TRUE else "disable"
    if mode == "no-verify":
        return "require"
    if mode not in _SSL_MODES:
        raise Wrong("has an unknown sslmode", f"use one of {', '.join(sorted(_SSL_MODES))}")
    return mode


def database_url(text: str) -> SecretUrl:
    """Read postgres://, postgresql:// or SQLAlchemy's postgresql+driver://; raises Wrong.

    Arguments that only Prisma, node-postgres or libpq know are taken out; `pgbouncer=true` is
    kept in `implies`, because it says how the database is reached.
    """
    example = "postgresql://user:password@host:5432/database"
    parts = _take_apart(_DRIVER.sub(r"\1", text.strip().partition("://")[0]) + _rest(text), example)
    _check_scheme(parts, ("postgres", "postgresql"), example)
    arguments = dict(parts.query)
    if parts.hosts or "host" not in arguments:
        _check_host(parts.hosts, example)
    mode = _ssl_mode(parts.query)
    kept = [(k, v) for k, v in parts.query if k in _POSTGRES_KNOWN and k != "sslmode"]
    _check_values(kept, _POSTGRES_VALUES, example)
    kept += [("sslmode", mode)] if mode else []
    strangers = set(arguments) - _POSTGRES_KNOWN - _POSTGRES_SILENT
    pooled = arguments.get("pgbouncer", "").lower() in _TRUE
    return SecretUrl(
        parts.value(kept),
        parts.masked(kept),
        tuple(sorted(strangers)),
        ("pgbouncer=true",) if pooled else (),
    )


def _rest(text: str) -> str:
    _, separator, rest = text.strip().partition("://")
    return separator + rest


def transport_url(text: str) -> SecretUrl:
    """Check scheme, host and port of an SMTP server's or an API's URL; mail/ reads the rest.

    Raises Wrong.
    """
    if text.strip().lower().startswith("resend+"):
        return _resend_url(text)
    example = "smtp+starttls://user:password@host:587"
    parts = _take_apart(text, example)
    _check_scheme(parts, ("smtp", "smtps", "smtp+starttls", "resend+https"), example)
    _check_host(parts.hosts, example)
    if parts.path not in ("", "/"):
        raise Wrong("has a path, which SMTP does not know", _ENCODE)
    if parts.user and parts.password is None:
        raise Wrong("has a user but no password", f"write it as {example}")
    query = list(parts.query)
    return SecretUrl(text.strip(), parts.masked(query))


def _resend_url(text: str) -> SecretUrl:
    example = "resend+https://:API_KEY@api.resend.com"
    parts = _take_apart(text, example)
    _check_scheme(parts, ("resend+https", "resend+http"), example)
    _check_host(parts.hosts, example)
    if parts.path not in ("", "/") or parts.query:
        raise Wrong("has something after host and port", f"write it as {example}")
    if parts.user or not parts.password:
        raise Wrong("has no API key where a password stands", f"write it as {example}")
    return SecretUrl(text.strip(), parts.masked([]))


def http_base(text: str) -> str:
    """Read the public base of tracking links, without a slash at its end; raises Wrong."""
    example = "https://track.example.org"
    parts = _take_apart(text, example)
    _check_scheme(parts, ("https", "http"), example)
    _check_host(parts.hosts, example)
    if parts.user is not None or parts.query:
        raise Wrong("must be a plain base without user or query", f"write it as {example}")
    return urlunsplit((parts.scheme, parts.hosts, parts.path.rstrip("/"), "", ""))
