"""HTTP for platforms and people: health, readiness, metrics, and the routes that it is given.

/health is for the platform's deploy check (200 as long as this process has consumed and is not
done), /ready for whoever wants to know whether new jobs are taken. Its own routes change nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from campaign_worker.errors import SettingsError
from campaign_worker.quick import Asked, Quick, QuickServer
from campaign_worker.state import WorkerState
from shutdown import StartStop

if TYPE_CHECKING:
    from metrics import Exposition

STOP_SECONDS: Final = 1.0
"""What requests that are being answered have at stop(); a health answer takes a millisecond."""

PORT_TRIES: Final = 20
BACKLOG: Final = 128

# What a family that this machine does not have (or has switched off) says to socket() and bind().
_NO_SUCH_FAMILY: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


Handler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
"""Answers requests by the first part of their path; the text is what follows, without the query."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the worker knows about itself at one moment.

    `consumed`: it has been ready at some time. `last_claim_age_seconds`: since Redis last answered
    a claim, with a job or without; None before the first. `held`: why intake is held, if it is.
    """

    state: WorkerState
    consumed: bool
    in_flight: int
    last_claim_age_seconds: float | None
    held: tuple[str, ...]
    version: str
    instance: str

    @property
    def healthy(self) -> bool:
        """Whether the platform should keep this process: it consumes, or drains."""
        return self.consumed and self.state is not WorkerState.STOPPED

    @property
    def ready(self) -> bool:
        """Whether new jobs are taken."""
        return self.state is WorkerState.READY


class HealthSource(Protocol):
    """Who knows how the worker is; answers at once, from memory."""

    def health(self) -> Health:
        """Return the state of this moment."""


class WebServer(StartStop):
    """Serves `port` on both IP families; 0 takes a free one, which `port` then names."""

    def __init__(
        self,
        port: int,
        health: HealthSource,
        exposition: Exposition,
        routes: Mapping[str, Handler] | None = None,
        quick: Quick | None = None,
    ) -> None:
        super().__init__()
        self._quick = quick or _nothing_quick
        self._routes = routes or {}
        self._own: dict[str, Callable[[], web.Response]] = {
            "/health": self._health_now,
            "/api/health": self._health_now,
            "/ready": self._ready_now,
            "/metrics": self._metrics_now,
        }
        self._wanted_port = port
        self._port = port
        self._health = health
        self._exposition = exposition
        self._runner: web.ServerRunner | None = None

    @property
    def port(self) -> int:
        """The port that is served; the wanted one before the start."""
        return self._port

    async def _start(self) -> None:
        """Bind and serve; SettingsError naming PORT when it cannot be bound."""
        # Without an application: its router and signals would be a good part of a request's cost.
        server = QuickServer(self._answer, self._quick, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        sockets = listening_sockets(self._wanted_port)
        self._port = sockets[0].getsockname()[1]
        with contextlib.ExitStack() as unserved:
            for sock in sockets:
                unserved.callback(sock.close)
            for sock in sockets:
                await web.SockSite(self._runner, sock, backlog=BACKLOG).start()
            # From here on the sockets belong to the sites, and cleanup() closes them.
            unserved.pop_all()

    async def _stop(self) -> None:
        """Close the port at once, and connections after at most a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        _, first, rest = (*path.split("/", 2), "", "")[:3]
        handler = self._routes.get(first)
        if handler is not None:
            return await handler(request, rest)
        own = self._own.get(path)
        if own is None:
            return web.Response(status=404, text="not found\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        return own()

    def _health_now(self) -> web.Response:
        health = self._health.health()
        return web.json_response(_document(health), status=200 if health.healthy else 503)

    def _ready_now(self) -> web.Response:
        health = self._health.health()
        return web.json_response(
            {"state": health.state.value, "ready": health.ready},
            status=200 if health.ready else 503,
        )

    def _metrics_now(self) -> web.Response:
        return web.Response(
            body=self._exposition.text(),
            headers={"Content-Type": self._exposition.content_type},
        )


def _nothing_quick(_asked: Asked, _target: str) -> None:
    return None


def listening_sockets(port: int) -> list[socket.socket]:
    """Bind 0.0.0.0 and :: to one port, or the one of them that this machine has.

    SettingsError naming PORT when the port is taken or not allowed. 0: a port free in both.
    """
    for attempt in range(PORT_TRIES):
        try:
            return _bind_both(port)
        except OSError as error:
            # A port that was free in one family can be taken in the other: only then try another.
            again = port == 0 and error.errno == errno.EADDRINUSE and attempt + 1 < PORT_TRIES
            if not again:
                raise _port_error(port, error) from error
    raise AssertionError("the last try either returns or raises")


def _bind_both(port: int) -> list[socket.socket]:
    with contextlib.ExitStack() as half_done:
        sockets: list[socket.socket] = []
        missing: OSError | None = None
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - platforms and private nets call from outside
            try:
                sock = _bind(family, host, sockets[0].getsockname()[1] if sockets else port)
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error
                continue
            half_done.callback(sock.close)
            sockets.append(sock)
        if not sockets and missing is not None:
            raise missing
        half_done.pop_all()
        return sockets


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            # Without it :: takes the IPv4 half too and collides with 0.0.0.0.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # bind() alone does not claim a port against another SO_REUSEADDR socket; listen() does.
        sock.listen(BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    except BaseException:
        sock.close()
        raise
    return sock


def _port_error(port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError("PORT", f"port {port} is already in use", "stop its user or set PORT")
    if error.errno == errno.EACCES:
        return SettingsError(
            "PORT", f"port {port} is not allowed for this user", "set PORT to 1024 or above"
        )
    return SettingsError("PORT", f"port {port} cannot be served: {error.strerror}")


def _document(health: Health) -> dict[str, object]:
    age = health.last_claim_age_seconds
    now = dt.datetime.now(dt.UTC)
    return {
        "state": health.state.value,
        "in_flight": health.in_flight,
        "last_claim_age_seconds": None if age is None else round(age, 3),
        "last_claim_at": (
            None
            if age is None
            else (now - dt.timedelta(seconds=age)).isoformat(timespec="milliseconds")
        ),
        "held": list(health.held),
        "version": health.version,
        "instance": health.instance,
    }
