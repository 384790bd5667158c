"""Where Redis is and how to reach it: one frozen value from a URL, a dict of options or a client.

Builds redis-py connections; keeps none open itself.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio as aioredis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.retry import Retry

from campaign_worker.errors import SettingsError, UnsupportedOption
from campaign_worker.queue.refusals import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Opening a connection may take this long; Redis is reconnected to at this pace at worst.
CONNECT_TIMEOUT_SECONDS = 2.0

_SSL_OPTIONS = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_certfile", "ssl_keyfile"}
    | {"ssl_check_hostname", "ssl_keyfile_password"}
)
_PLAIN_OPTIONS = frozenset({"host", "port", "db", "username", "password", "path"})
# ioredis settings that BullMQ's documentation asks for and that describe what is done here anyway:
# names are looked up for both address families, commands wait for Redis without a limit of tries.
_GRANTED: dict[str, tuple[object, ...]] = {
    "family": (0, 4, 6, "0", "4", "6"),
    "maxRetriesPerRequest": (None,),
    "enableReadyCheck": (False, True),
    "protocol": (2, "2", 3, "3"),
}


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    """One Redis database, or a cluster. `path` is a Unix socket, without `host`/`port`/`tls`."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    #: Entry points of a cluster, (host, port) each; none when this is a single server.
    nodes: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(
        cls,
        value: str
        | Mapping[str, Any]
        | aioredis.Redis
        | aioredis.RedisCluster
        | ConnectionSpec
        | None,
    ) -> ConnectionSpec:
        """Read a URL, a dict of options or an existing client's settings.

        Raises SettingsError for a value that is none of these or wrong, and UnsupportedOption for
        an option that is not honoured.
        """
        if value is None:
            return cls()
        if isinstance(value, ConnectionSpec):
            return value
        if isinstance(value, str):
            return _from_url(value)
        if isinstance(value, aioredis.Redis | redis.Redis):
            return _from_client(value)
        if isinstance(value, aioredis.RedisCluster):
            return _from_cluster_client(value)
        if hasattr(value, "items"):
            return _from_options(dict(value.items()))
        raise SettingsError("connection", f"cannot be a {type(value).__name__}", "give a URL")

    def node(self, host: str, port: int) -> ConnectionSpec:
        """Return how to reach one node of the cluster."""
        return replace(self, host=host, port=port, nodes=())

    def connection(self) -> AbstractConnection:
        """Return an unopened connection without socket timeout and without retries.

        Its user bounds every wait: a timeout shared with BZPOPMIN would cut blocks short, and a
        repeated claim would strand a job.
        """
        shared = self._shared() | {
            "socket_timeout": None,
            "retry": AsyncRetry(NoBackoff(), 0),
            "decode_responses": True,
            "encoding_errors": "replace",
        }
        if self.path is not None:
            return UnixDomainSocketConnection(path=self.path, **shared)
        kind = SSLConnection if self.tls else Connection
        return kind(host=self.host, port=self.port, **self.tls_options, **shared)

    def client(self, **overrides: Any) -> aioredis.Redis:
        """Return an asyncio client for everything that is neither claiming nor finishing.

        Raises UnsupportedOption for a cluster, on which only the Worker class works.
        """
        if self.nodes:
            raise UnsupportedOption("connection.cluster", "only the Worker class works on clusters")
        client = aioredis.Redis(
            **self._client_options(), retry=AsyncRetry(NoBackoff(), 0), **overrides
        )
        pool = client.connection_pool
        pool.connection_class = _leaving(pool.connection_class)
        return client

    def sync_client(self, socket_timeout_seconds: float) -> redis.Redis:
        """Return a blocking client for a thread; every call is bounded and none is repeated."""
        return redis.Redis(
            **self._client_options(),
            retry=Retry(NoBackoff(), 0),
            socket_timeout=socket_timeout_seconds,
        )

    def _shared(self) -> dict[str, Any]:
        return {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        } | ({} if self.path is not None else {"socket_keepalive": True})

    def _client_options(self) -> dict[str, Any]:
        options = self._shared() | {"decode_responses": True}
        if self.path is not None:
            del options["socket_connect_timeout"]
            return options | {"unix_socket_path": self.path}
        return (
            options
            | {"host": self.host, "port": self.port, "ssl": self.tls}
            | dict(self.tls_options)
        )


class _Leaving:
    """Mixed into a pooled connection: one to a demoted primary is not used again.

    As redis-py's own connections by way of a sentinel do.
    """

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read a reply; a server that is not the one to ask counts as a lost connection."""
        connection: Any = super()
        try:
            return await connection.read_response(*arguments, **options)
        except ResponseError as refusal:
            if not is_elsewhere(refusal):
                raise
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(str(refusal)) from refusal


def _leaving(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    return type(kind.__name__, (_Leaving, kind), {})


def _from_url(url: str) -> ConnectionSpec:
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise SettingsError(
            "connection", f"unknown scheme {parts.scheme!r}", "use redis:// or rediss://"
        )
    options: dict[str, Any] = {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        **dict(parse_qsl(parts.query)),
    }
    if parts.scheme == "unix":
        return _from_options(options | {"path": unquote(parts.path)})
    try:
        port = parts.port or 6379
    except ValueError as error:
        raise SettingsError("connection", "the port is no number from 1 to 65535") from error
    options |= {"host": parts.hostname or "localhost", "port": port}
    database = parts.path.strip("/")
    if database:
        options["db"] = database
    return _from_options(options | {"tls": parts.scheme == "rediss"})


def _from_options(options: dict[str, Any]) -> ConnectionSpec:
    for name, granted in _GRANTED.items():
        if name in options and options.pop(name) not in granted:
            raise UnsupportedOption(f"connection.{name}", "this value is not honoured")
    tls = options.pop("tls", options.pop("ssl", False))
    if isinstance(tls, dict) and tls:
        raise UnsupportedOption("connection.tls", "give ssl_ca_certs, ssl_cert_reqs and the like")
    tls_options = {name: options.pop(name) for name in _SSL_OPTIONS & options.keys()}
    for name in options.keys() - _PLAIN_OPTIONS - {"cluster"}:
        raise UnsupportedOption(f"connection.{name}", "not honoured")
    for name in {"port", "db"} & options.keys():
        try:
            options[name] = int(options[name])
        except (TypeError, ValueError) as error:
            raise SettingsError(f"connection.{name}", "is no number") from error
    nodes = _cluster(options)
    return ConnectionSpec(
        tls=tls is not False and tls is not None,
        tls_options=_tls_options(tls_options),
        nodes=nodes,
        **options,
    )


def _cluster(options: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Take `cluster` out of the options: true or false, or a list of `{host, port}`."""
    given = options.pop("cluster", False)
    if not isinstance(given, list) and str(given).lower() in {"none", "false", "0", "no", ""}:
        return ()
    if options.get("db") or "path" in options:
        raise SettingsError("connection.cluster", "has database 0 only, and no Unix socket")
    here = {"host": options.get("host", "localhost"), "port": options.get("port", 6379)}
    points = given if isinstance(given, list) else [here]
    try:
        nodes = tuple((str(point["host"]), int(point.get("port", 6379))) for point in points)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = "must be true or a list of {host, port}"
        raise SettingsError("connection.cluster", problem) from error
    if not nodes:
        raise SettingsError("connection.cluster", "names no node")
    return nodes


def _from_cluster_client(client: aioredis.RedisCluster) -> ConnectionSpec:
    manager = client.nodes_manager
    settings = dict(manager.connection_kwargs)
    kept = {name: settings[name] for name in (_PLAIN_OPTIONS | _SSL_OPTIONS) & settings.keys()}
    points = [{"host": each.host, "port": each.port} for each in manager.startup_nodes.values()]
    for name in ("host", "port", "db", "path"):
        kept.pop(name, None)
    kind = getattr(settings.get("connection_class"), "__name__", "")
    tls = bool(settings.get("ssl")) or "SSL" in kind
    return _from_options(kept | {"tls": tls, "cluster": points})


def _tls_options(options: dict[str, Any]) -> dict[str, Any]:
    modes = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    if isinstance(reqs := options.get("ssl_cert_reqs"), str):
        if reqs not in modes:
            raise SettingsError("connection.ssl_cert_reqs", "must be none, optional or required")
        options["ssl_cert_reqs"] = modes[reqs]
        if reqs == "none":
            options.setdefault("ssl_check_hostname", False)
    if isinstance(check := options.get("ssl_check_hostname"), str):
        options["ssl_check_hostname"] = check.lower() in {"1", "true", "yes"}
    return options


def _from_client(client: aioredis.Redis | redis.Redis) -> ConnectionSpec:
    settings = dict(client.connection_pool.connection_kwargs)
    kept = {name: settings[name] for name in (_PLAIN_OPTIONS | _SSL_OPTIONS) & settings.keys()}
    if "path" in kept:
        kept.pop("host", None)
        kept.pop("port", None)
    kind = client.connection_pool.connection_class.__name__
    return _from_options(kept | {"tls": "SSL" in kind})
