"""What delivery needs from the world, one small Protocol per need. Adapters live in storage and mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from campaign_worker.delivery.model import Accepted, Envelope


class Session(Protocol):
    """One authenticated SMTP connection, held for one mail."""

    async def send(
        self, envelope: Envelope, content: bytes, before_dot: Callable[[], Awaitable[None]]
    ) -> Accepted:
        """Send one mail; await `before_dot` right before the first write that can contain the final dot.

        Raises errors.SmtpRefused and errors.SmtpLost; what `before_dot` raises comes through unchanged,
        and nothing of the body has been written then.
        """
        ...


class Transport(Protocol):
    """A named way out, with a bounded number of connections."""

    @property
    def name(self) -> str:
        """The name that campaigns choose it by; `default` for SMTP_URL."""
        ...

    def slot(self) -> AbstractAsyncContextManager[Session]:
        """Wait (FIFO) for a usable connection. Raises errors.TransportDown."""
        ...
