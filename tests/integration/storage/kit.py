"""A ledger over a real database, and short words for what tests put into it and read from it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg

from campaign_worker.delivery.claims import Claim, Claimed
from campaign_worker.delivery.requests import CampaignRequest, InlineMail, InlineRequest, JobRef
from campaign_worker.delivery.settlements import Ending, MarkSent, SettleAnswer, Settlement
from campaign_worker.mail.compose import normalize
from campaign_worker.storage.campaigns import Campaigns
from campaign_worker.storage.database import Database, DatabaseOptions
from campaign_worker.storage.ledger import PostgresLedger
from campaign_worker.storage.recovery import PostgresRecovery, RecoveryOptions
from metrics import Fanout
from shutdown import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JOB = JobRef("campaign", "job-1")
LEASE_SECONDS = 30.0
_numbers = itertools.count(1)


MESSAGE_ID = "<1.1.0.campaign-worker@example.org>"
"""What marks of these tests say; a row keeps it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Seeded:
    """A campaign in the database: its id, and its recipients' ids."""

    id: int
    recipients: tuple[int, ...]

    def request(self, index: int = 0, step: int = 0) -> CampaignRequest:
        return CampaignRequest(self.id, self.recipients[index], step)


class World:
    """One ledger, one pool, and a raw connection beside them that plays the app."""

    def __init__(self, database: Database, raw: asyncpg.Connection[Any]) -> None:
        self.database = database
        self.raw = raw
        self.ledger = ledger_over(database)
        self.campaigns = Campaigns(database)

    def recovery(self, **options: Any) -> PostgresRecovery:
        """Make a recovery; Postgres honours its leases for no time after its start."""
        owner = options.pop("owner", "test")
        given = RecoveryOptions(**{"lease_seconds": 0.0, "overdue_seconds": 0.0} | options)
        return PostgresRecovery(self.database, given, owner=owner)

    async def value(self, query: str, *arguments: object) -> Any:
        return await self.raw.fetchval(_qualified(query), *arguments)

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.raw.fetch(_qualified(query), *arguments)]

    async def execute(self, query: str, *arguments: object) -> None:
        await self.raw.execute(_qualified(query), *arguments)

    async def template(self, subject: str = "Hello") -> int:
        return int(
            await self.value(
                "INSERT INTO $templates (subject, text) VALUES ($1, 'text') RETURNING id", subject
            )
        )

    async def campaign(self, recipients: int = 1, *, status: str = "running") -> Seeded:
        """Make a campaign and its recipients; addresses are unlike any other's."""
        campaign = await self.value(
            "INSERT INTO $campaigns (name, status, template_id, completed_at)"
            " VALUES ('c', $1, $2, CASE WHEN $1 = 'completed' THEN now() END) RETURNING id",
            status,
            await self.template(),
        )
        rows = await self.rows(
            "INSERT INTO $recipients (campaign_id, email)"
            " SELECT $1, unnest($2::text[]) RETURNING id",
            campaign,
            [f"r{next(_numbers)}@example.com" for _ in range(recipients)],
        )
        return Seeded(campaign, tuple(sorted(row["id"] for row in rows)))

    async def follow_up(
        self, campaign: Seeded, step: int = 1, *, delay_seconds: int = 0, condition: str = "always"
    ) -> None:
        await self.execute(
            "INSERT INTO $follow_ups (campaign_id, step, template_id, delay_seconds, condition)"
            " VALUES ($1, $2, $3, $4, $5)",
            campaign.id,
            step,
            await self.template(f"step {step}"),
            delay_seconds,
            condition,
        )

    async def claim(self, request: CampaignRequest | InlineRequest, token: str = "") -> Claim:
        return await self.ledger.claim(request, token or str(uuid.uuid4()), JOB)

    async def claimed(self, request: CampaignRequest | InlineRequest, token: str = "") -> Claimed:
        """Claim what must be claimable."""
        claim = await self.claim(request, token)
        assert isinstance(claim, Claimed), claim
        return claim

    async def marked(self, request: CampaignRequest | InlineRequest) -> Claimed:
        """Claim and mark."""
        claim = await self.claimed(request)
        assert await self.ledger.mark(claim.id, claim.token, MESSAGE_ID)
        return claim

    async def settle(self, claim: Claimed, ending: Ending) -> SettleAnswer:
        return await self.ledger.settle(Settlement(claim.id, claim.token, ending))

    async def sent(self, request: CampaignRequest | InlineRequest) -> Claimed:
        """Bring a row to `sent`."""
        claim = await self.marked(request)
        await self.settle(claim, accepted(claim))
        return claim

    async def row(self, what: Claimed | CampaignRequest | int) -> dict[str, Any]:
        """Read the message's row."""
        if isinstance(what, CampaignRequest):
            where = (what.campaign_id, what.recipient_id, what.step)
            clause = "campaign_id = $1 AND recipient_id = $2 AND step = $3"
            (row,) = await self.rows(f"SELECT * FROM $messages WHERE {clause}", *where)
            return row
        row_id = what.id if isinstance(what, Claimed) else what
        (row,) = await self.rows("SELECT * FROM $messages WHERE id = $1", row_id)
        return row

    async def state(self, what: Claimed | CampaignRequest | int) -> str:
        return str((await self.row(what))["state"])

    async def somebody_waits_for_a_lock(self) -> bool:
        return bool(
            await self.value(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    async def counts(self, campaign: Seeded) -> dict[str, int]:
        """Return the counts of a campaign that are not 0."""
        (row,) = await self.rows("SELECT * FROM $campaign_counts WHERE campaign_id=$1", campaign.id)
        del row["campaign_id"]
        return {name.removesuffix("_count"): count for name, count in row.items() if count}


def ledger_over(database: Database) -> PostgresLedger:
    return PostgresLedger(
        database, lease_seconds=LEASE_SECONDS, normalize=normalize, listener=Fanout()
    )


def accepted(claim: Claimed, reply: str = "250 2.0.0 ok") -> MarkSent:
    return MarkSent(f"<{claim.message_key}@example.com>", reply)


def inline(key: str = "k", *, to: tuple[str, ...] = ("a@example.com",), **other: Any) -> Any:
    """Make a self-contained request."""
    fields: dict[str, Any] = {
        "to": to, "subject": "s", "html": None, "text": "t", "sender": None, "reply_to": None,
        "cc": (), "bcc": (), "headers": {}, "attachments": (),
    }  # fmt: skip
    campaign_id = other.pop("campaign_id", None)
    return InlineRequest(key, campaign_id, InlineMail(**(fields | other)))


def _qualified(query: str) -> str:
    """Write `$messages` as the table in our schema; `$1` stays a parameter."""
    words = query.split("$")
    return words[0] + "".join(
        f"${word}" if word[:1].isdigit() else f"campaign_worker.{word}" for word in words[1:]
    )


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Database]:
    """Open a pool that is closed at the end."""
    database = Database(DatabaseOptions(url, **options))
    await database.open()
    try:
        yield database
    finally:
        await database.close(Deadline.after(2))


@contextlib.asynccontextmanager
async def world_of(url: str, **options: Any) -> AsyncIterator[World]:
    """Open everything over one database; closed at the end."""
    async with opened(url, **options) as database:
        raw = await asyncpg.connect(url)
        try:
            world = World(database, raw)
            yield world
            await world.ledger.close(Deadline.after(2))
        finally:
            await raw.close(timeout=2)
