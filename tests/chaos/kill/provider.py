"""A provider with idempotency keys that knows which worker asks: the door of the tests' Resend API.

Each worker has a port of its own. Some requests are executed and their answer lost, or fail before
anything is executed: by the plan's seed, so often that replays are no exception.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any, Self

from aiohttp import web

from campaign_worker.embedded.smtp_server import ReceivedMail
from tests.chaos.kill.sink import Hook, OpenMail
from tests.fixtures.resend import API_KEY, Fault, ResendApi

ASKED, EXECUTED, ANSWERED = "asked", "executed", "answered"
_WRITING_SECONDS = 0.0005
_FAULTY_SHARE = 0.04
_FAULTS = (Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.ERROR_BEFORE, Fault.ERROR_AFTER)


class Provider(ResendApi):
    """Takes the place of the WatchfulSink; `hook` hears of each request: asked, executed, answered.

    Nothing may be in doubt here, so no list of what was cut off explains anything.
    """

    def __init__(self, *, latency_ms: float, seed: int) -> None:
        super().__init__()
        self.hook: Hook | None = None
        self.cut_off: list[OpenMail] = []
        self.received: list[ReceivedMail] = []
        self._latency_seconds = latency_ms / 1000
        self._random = random.Random(seed)  # noqa: S311 - chaos is to be repeatable
        self._doors: dict[str, web.TCPSite] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._workers: dict[int, str] = {}
        self._grown = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.gather(*self._closing)
        await self.stop()

    async def settings_of(self, worker: str) -> dict[str, str]:
        """Open a door for a worker; the settings that lead it there."""
        assert self._runner is not None
        known = {port for _, port in self._runner.addresses}
        door = web.TCPSite(self._runner, "127.0.0.1", 0)
        await door.start()
        (port,) = {port for _, port in self._runner.addresses} - known
        self._doors[worker], self._workers[port] = door, worker
        return {"SMTP_URL": f"resend+http://:{API_KEY}@127.0.0.1:{port}"}

    def note_kill(self, worker: str) -> None:
        """Close the door of a worker that is dead; a replay finds out what became of a request."""
        closing = asyncio.create_task(self._doors.pop(worker).stop())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def wait_mails(self, count: int, *, timeout_seconds: float = 10.0) -> None:
        """Wait until `count` mails or more were executed; TimeoutError."""
        async with asyncio.timeout(timeout_seconds), self._grown:
            await self._grown.wait_for(lambda: len(self.received) >= count)

    async def _answer(self, request: web.Request, key: str, body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        worker = self._workers.get(request.transport.get_extra_info("sockname")[1], "")
        self._tell(ASKED, worker)
        unlucky = self._random.random() < _FAULTY_SHARE
        self.faults = [self._random.choice(_FAULTS)] if unlucky else []
        answer = await super()._answer(request, key, body)
        self._tell(EXECUTED, worker)
        loop = asyncio.get_running_loop()
        loop.call_later(_WRITING_SECONDS, self._tell, ANSWERED, worker)
        return answer

    async def _execute(
        self, key: str, body: bytes, mail: dict[str, Any], fault: Fault | None
    ) -> web.Response:
        # As long as this takes, a repetition is told that the first one is still under way.
        answering = await super()._execute(key, body, mail, fault)
        known = self._known[key]
        mail_id, known.mail_id = known.mail_id, None
        await asyncio.sleep(self._latency_seconds)
        known.mail_id = mail_id
        self.received.append(_received(mail, body))
        async with self._grown:
            self._grown.notify_all()
        return answering

    def _tell(self, moment: str, worker: str) -> None:
        if self.hook is not None and worker:
            self.hook(moment, worker)


def _received(mail: dict[str, Any], body: bytes) -> ReceivedMail:
    return ReceivedMail(
        message_id=mail["headers"]["Message-ID"],
        sender=mail["from"],
        recipients=tuple(mail["to"]),
        received_ms=time.time_ns() // 1_000_000,
        size=len(body),
        connection=0,
        ehlo_name="",
        smtputf8=False,
        content=json.dumps(mail).encode(),
    )
