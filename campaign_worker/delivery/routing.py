"""Which transport a request's campaign goes out by. Answers are kept for a short while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from campaign_worker.delivery.ports import Transport
from campaign_worker.delivery.requests import Request
from campaign_worker.errors import SettingsError

DEFAULT_TRANSPORT = "default"

_KEPT_SECONDS = 30.0
_KEPT_CAMPAIGNS = 10_000


class Routing:
    """Fulfils Transports. `lookup` gives the transport names of known campaigns by id.

    `check` raises TransportDown for one that must not be used now.
    """

    def __init__(
        self,
        transports: Mapping[str, Transport],
        lookup: Callable[[Sequence[int]], Awaitable[Mapping[int, str]]],
        check: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._transports = transports
        self._check = check
        self._lookup = lookup
        self._kept: dict[int, tuple[float, str]] = {}

    async def choose(self, request: Request) -> Transport:
        """Find the campaign's transport.

        Raises errors.SettingsError, DatabaseAway, TransportDown.
        """
        name = DEFAULT_TRANSPORT
        if request.campaign_id is not None:
            name = await self._name_of(request.campaign_id)
        try:
            transport = self._transports[name]
        except KeyError:
            raise SettingsError(
                f"SMTP_URL_{name.upper()}",
                f"is missing, and campaign {request.campaign_id} goes out by transport {name!r}",
                "set it, or change the campaign's transport",
            ) from None
        self._check(name)
        return transport

    async def _name_of(self, campaign_id: int) -> str:
        kept = self._kept.get(campaign_id)
        now = time.monotonic()
        if kept is not None and kept[0] > now:
            return kept[1]
        found = await self._lookup([campaign_id])
        if len(self._kept) >= _KEPT_CAMPAIGNS:
            self._kept.clear()
        if campaign_id not in found:
            # The claim's finding, not ours; it may be committed a moment later, so it is not kept.
            return DEFAULT_TRANSPORT
        name = found[campaign_id]
        self._kept[campaign_id] = (now + _KEPT_SECONDS, name)
        return name
