"""The settings of what is kept of opens and clicks: of whom, how much, for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from campaign_worker.settings import parse
from campaign_worker.settings.base import Base
from campaign_worker.settings.kinds import About, ClientHash


class RecordingSettings(Base):
    """What becomes of requests that tracking links bring."""

    tracking_client_hash: ClientHash = Field(
        default=ClientHash.DAILY,
        description="What is kept of an IP address: daily is a hash whose salt is random, lives in "
        "the memory of one process and is thrown away every day; none is nothing.",
    )
    tracking_client_ip_header: Annotated[
        str | None,
        AfterValidator(parse.header_name),
        About(default="none; X-Real-IP on Railway", check="a header's name", example="X-Real-IP"),
    ] = Field(
        default=None,
        description="The header in which the proxy before us names the client; of a list, the last "
        "entry counts. Without it the address is that of whoever connects. Name no header that "
        "clients can set themselves.",
    )
    tracking_limit_per_link: Annotated[int, About(unit="requests/min")] = Field(
        default=60,
        ge=0,
        le=1_000_000_000,
        description="How often each process records one link of one mail; more are answered and "
        "counted only. 0: without limit.",
    )
    tracking_limit_per_client: Annotated[int, About(unit="requests/min")] = Field(
        default=6000,
        ge=0,
        le=1_000_000_000,
        description="The same for one client (an IPv4 address, or a /64 of IPv6); "
        "unsubscribes and image proxies of mailbox providers are exempt. 0: without limit.",
    )
    tracking_retention_days: Annotated[int, About(unit="days", example="90")] = Field(
        default=365,
        ge=1,
        le=36_500,
        description="How long single events are kept. Counts, and the times of the first open and "
        "click, stay.",
    )
