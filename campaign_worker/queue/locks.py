"""Keeps the locks of active jobs, in a thread of its own: a blocked event loop loses none.

Gives all locks up when the loop has not run for four lock durations: a hung worker must not keep
jobs for ever. Never ends a job itself: it fences the job's signal and tells the loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgpack
from redis.exceptions import NoScriptError, RedisError

if TYPE_CHECKING:
    import redis

    from campaign_worker.queue.abort import AbortSignal
    from campaign_worker.queue.home import Home
    from campaign_worker.queue.keys import QueueKeys
    from campaign_worker.queue.scripts import Script
    from shutdown import Deadline

#: The loop may stand still for this many lock durations before its locks are given up.
HUNG_AFTER_DURATIONS = 4
_RETRY_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class HeldLock:
    """A lock that is kept; `signal` is the fence of the job behind it.

    `settling` says that the job's outcome is being written: the lock may end at any moment, and
    whether it was lost is for the one who writes to find out.
    """

    job_id: str
    token: str
    signal: AbortSignal
    settling: bool = False


@dataclass(frozen=True, slots=True)
class RenewalHooks:
    """What the loop wants to hear; all are called on the event loop.

    `lost(lock)`: refused by Redis, or unanswered for too long. `renewed(ids)`, `refused(ids)`: one
    renewal's result. `failed(error)`: Redis did not answer.
    """

    lost: Callable[[HeldLock], None]
    renewed: Callable[[list[str]], None]
    refused: Callable[[list[str]], None]
    failed: Callable[[BaseException], None]


class LockRenewer:
    """Renews all kept locks each half `renew_time_ms` (by default a quarter of their duration)."""

    def __init__(
        self,
        home: Home,
        keys: QueueKeys,
        script: Script,
        *,
        duration_ms: int,
        renew_time_ms: int,
        hooks: RenewalHooks,
    ) -> None:
        self._home = home
        self._keys = keys
        self._script = script
        self._duration_ms = duration_ms
        self._interval = renew_time_ms / 2000
        # Several times within the margin, so that an overdue lock is given up before it is gone.
        self._beat_every = min(1.0, duration_ms / 20_000)
        self._valid_for = duration_ms * 0.9 / 1000
        self._hooks = hooks
        self._held: dict[str, HeldLock] = {}
        self._guard = threading.Lock()
        self._halt = threading.Event()
        self._beat_at = time.monotonic()
        self._beat: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    def start(self) -> None:
        """Start the thread; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._stamp()
        threading.Thread(target=self._run, name="lock-renewal", daemon=True).start()

    def keep(self, lock: HeldLock, claimed_at: float) -> None:
        """Renew `lock` from now on; `claimed_at` is the monotonic time before its claim."""
        lock.signal.valid_until = claimed_at + self._valid_for
        with self._guard:
            self._held[lock.token] = lock

    def drop(self, lock: HeldLock) -> None:
        """Renew `lock` no longer."""
        with self._guard:
            if self._held.get(lock.token) is lock:
                del self._held[lock.token]

    def halt(self) -> None:
        """Tell the thread to end; returns at once."""
        self._halt.set()
        if self._beat is not None:
            self._beat.cancel()

    async def stop(self, deadline: Deadline) -> None:
        """End the thread, waiting for it no longer than the deadline allows."""
        self.halt()
        if self._ended is not None:
            try:
                await deadline.wait_for(self._ended.wait())
            except TimeoutError:
                # A daemon thread inside a bounded socket call: it ends by itself.
                return

    def _stamp(self) -> None:
        self._beat_at = time.monotonic()
        with self._guard:
            held = list(self._held.values())
        for lock in held:
            if self._beat_at > lock.signal.valid_until:
                self._hooks.lost(lock)
        if self._loop is not None and not self._halt.is_set():
            self._beat = self._loop.call_later(self._beat_every, self._stamp)

    def _run(self) -> None:
        timeout = max(0.2, min(2.0, self._interval / 2))
        client = (spec := self._home.known).sync_client(timeout)
        wait = self._interval
        try:
            while not self._halt.wait(wait):
                if self._home.known is not spec:
                    client.close()
                    client = (spec := self._home.known).sync_client(timeout)
                with self._guard:
                    held = list(self._held.values())
                wait = self._interval
                if held and not self._renew(client, held):
                    wait = min(_RETRY_SECONDS, self._interval)
        finally:
            client.close()
            if self._ended is not None:
                self._post(self._ended.set)

    def _renew(self, client: redis.Redis, held: list[HeldLock]) -> bool:
        sent_at = time.monotonic()
        if sent_at - self._beat_at > HUNG_AFTER_DURATIONS * self._duration_ms / 1000:
            return True
        try:
            refused = set(self._extend(client, held))
        except (RedisError, OSError) as error:
            # A new connection finds the new primary, should this one have been demoted.
            client.close()
            self._post(self._hooks.failed, error)
            return False
        lost = [lock for lock in held if lock.job_id in refused and not lock.settling]
        kept = [lock for lock in held if lock.job_id not in refused]
        for lock in kept:
            lock.signal.renew(sent_at + self._valid_for)
        if lost:
            self._post(self._hooks.refused, [lock.job_id for lock in lost])
        for lock in lost:
            self.drop(lock)
            lock.signal.fence()
            self._post(self._hooks.lost, lock)
        if kept:
            self._post(self._hooks.renewed, [lock.job_id for lock in kept])
        return True

    def _extend(self, client: redis.Redis, held: list[HeldLock]) -> list[str]:
        arguments = (
            *(1, self._keys.of("stalled"), self._keys.base),
            msgpack.packb([lock.token for lock in held]),
            msgpack.packb([lock.job_id for lock in held]),
            self._duration_ms,
        )
        try:
            reply = client.evalsha(self._script.sha, *arguments)
        except NoScriptError:
            reply = client.eval(self._script.text, *arguments)
        return [str(job_id) for job_id in reply]

    def _post(self, callback: Callable[..., object], *arguments: object) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            return
