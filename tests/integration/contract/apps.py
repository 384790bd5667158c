"""Two apps with tables of their own, and their contracts: as Prisma makes them, as Drizzle does."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import asyncpg

PRISMA_TABLES = """
CREATE TYPE "CampaignStatus" AS ENUM ('DRAFT', 'RUNNING', 'PAUSED', 'CANCELLED', 'COMPLETED');
CREATE TYPE "RecipientStatus" AS ENUM ('PENDING', 'SENT', 'FAILED', 'BOUNCED', 'SKIPPED');
CREATE TABLE "Campaign" (
    "id" uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "name" text NOT NULL,
    "status" "CampaignStatus" NOT NULL DEFAULT 'RUNNING',
    "subject" text NOT NULL,
    "bodyHtml" text NOT NULL,
    "fromEmail" text,
    "sentCount" integer NOT NULL DEFAULT 0,
    "failedCount" integer NOT NULL DEFAULT 0,
    "createdAt" timestamp(3) NOT NULL DEFAULT now()
);
CREATE TABLE "Recipient" (
    "id" uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "campaignId" uuid NOT NULL REFERENCES "Campaign" ("id"),
    "email" text NOT NULL,
    "firstName" text,
    "status" "RecipientStatus" NOT NULL DEFAULT 'PENDING',
    "unsubscribedAt" timestamp(3),
    "messageId" text,
    "sentAt" timestamp(3)
);
CREATE TABLE "Suppression" ("email" text PRIMARY KEY, "reason" text NOT NULL);
CREATE TABLE "FollowUp" (
    "id" uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "campaignId" uuid NOT NULL REFERENCES "Campaign" ("id"),
    "step" integer NOT NULL,
    "subject" text NOT NULL,
    "bodyHtml" text NOT NULL,
    "delayHours" integer NOT NULL
);
"""

PRISMA_CONTRACT = '''
version = 1

[queues.campaign]
concurrency = 10

[jobs.send-email]
kind = "send"
campaign = "campaignId"
recipient = "contact.id"

[jobs.send-batch]
kind = "send"
campaign = "campaignId"
recipients = "contacts"
recipient = "id"

[jobs.follow-up]
kind = "follow-up"
campaign = "campaignId"
recipient = "contact.id"
step = "step"

[jobs.start-campaign]
kind = "launch"
campaign = "campaignId"

[ids]
campaign = "uuid"
recipient = "uuid"

[load.campaigns]
query = """
SELECT c."id", c."status", c."name", c."subject", c."bodyHtml" AS html, c."fromEmail" AS mail_from
FROM "Campaign" c
WHERE c."id" = ANY(:ids)
"""
[load.campaigns.status]
running = ["RUNNING"]
paused = ["PAUSED"]
draft = ["DRAFT"]
cancelled = ["CANCELLED"]
completed = ["COMPLETED"]

[load.recipients]
query = """
SELECT r."id", r."campaignId" AS campaign_id, r."email",
       coalesce(r."firstName", 'friend') AS "firstName",
       r."unsubscribedAt" IS NOT NULL AS unsubscribed,
       r."status" = 'SENT' AS sent
FROM "Recipient" r
WHERE r."id" = ANY(:ids)
"""

[load.steps]
query = """
SELECT f."campaignId" AS campaign_id, f."step", f."subject", f."bodyHtml" AS html,
       f."delayHours" * 3600 AS delay_seconds
FROM "FollowUp" f WHERE f."campaignId" = ANY(:ids)
"""

[load.audience]
query = """
SELECT r."id" FROM "Recipient" r
WHERE r."campaignId" = :campaign_id AND (:after IS NULL OR r."id" > :after)
ORDER BY r."id" LIMIT :limit
"""

[load.suppressions]
query = """
SELECT s."email", s."reason" FROM "Suppression" s
WHERE lower(s."email") = ANY(:emails)
"""

[write.states]
sent = "SENT"
failed = "FAILED"
bounced = "BOUNCED"
skipped = "SKIPPED"

[write.recipients]
query = """
UPDATE "Recipient" r
SET "status" = w.state::"RecipientStatus", "messageId" = w.message_id,
    "sentAt" = w.sent_at AT TIME ZONE 'UTC'
FROM unnest(:recipient_ids, :steps, :states, :message_ids, :sent_ats)
     AS w (id, step, state, message_id, sent_at)
WHERE r."id" = w.id AND w.step = 0
"""

[write.campaigns]
query = """
UPDATE "Campaign" c
SET "sentCount" = c."sentCount" + w.sent, "failedCount" = c."failedCount" + w.failed
FROM unnest(:ids, :sent_added, :failed_added) AS w (id, sent, failed)
WHERE c."id" = w.id
"""
'''

DRIZZLE_TABLES = """
CREATE TABLE mail_campaigns (
    id bigserial PRIMARY KEY,
    title varchar(200) NOT NULL,
    state varchar(20) NOT NULL DEFAULT 'active',
    subject_line text NOT NULL,
    body_text text NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    undelivered bigint NOT NULL DEFAULT 0
);
CREATE TABLE contacts (
    id bigserial PRIMARY KEY, email varchar(320) NOT NULL UNIQUE, full_name text
);
CREATE TABLE campaign_contacts (
    campaign_id bigint NOT NULL REFERENCES mail_campaigns (id),
    contact_id bigint NOT NULL REFERENCES contacts (id),
    delivery_state text NOT NULL DEFAULT 'queued',
    delivered_at timestamptz,
    opted_out boolean NOT NULL DEFAULT false,
    attributes jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (campaign_id, contact_id)
);
CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    state text NOT NULL DEFAULT 'new',
    message_id text
);
"""

DRIZZLE_CONTRACT = '''
version = 1

[queues.mails]
concurrency = 5

[jobs.deliver]
kind = "send"
campaign = "data.campaign_id"
recipient = "data.contact_id"
returns = { ok = true, id = ":message_id", what = ":outcome" }

[jobs.deliver-all]
kind = "send"
campaign = "campaign_id"
recipients = "contact_ids"
parallel = 3

[jobs.transactional]
kind = "send"
[jobs.transactional.mail]
to = "mail.to"
subject = "mail.subject"
text = "mail.body"
key = "outbox_id"

[jobs.nightly-report]
kind = "park"

[ids]
campaign = "bigint"
recipient = "bigint"

[load.campaigns]
query = """
SELECT id, state AS status, title AS name, subject_line AS subject, body_text AS text
FROM mail_campaigns WHERE id = ANY(:ids)
"""
[load.campaigns.status]
running = ["active"]
paused = ["paused", "waiting"]
cancelled = ["stopped"]

[load.recipients]
query = """
SELECT cc.contact_id AS id, cc.campaign_id, c.email, c.full_name AS name,
       cc.opted_out AS unsubscribed, cc.delivery_state = 'delivered' AS sent, cc.attributes AS data
FROM unnest(:campaign_ids, :ids) AS w (campaign_id, contact_id)
JOIN campaign_contacts cc USING (campaign_id, contact_id)
JOIN contacts c ON c.id = cc.contact_id
"""

[load.mails]
query = """
SELECT id::text AS key, state = 'sent' AS sent, state = 'revoked' AS cancelled
FROM outbox WHERE id::text = ANY(:keys)
"""

[write.states]
sent = "delivered"
failed = "undeliverable"
skipped = "skipped"

[write.recipients]
query = """
UPDATE campaign_contacts cc
SET delivery_state = w.state, delivered_at = w.sent_at
FROM unnest(:campaign_ids, :recipient_ids, :states, :sent_ats)
     AS w (campaign_id, id, state, sent_at)
WHERE cc.campaign_id = w.campaign_id AND cc.contact_id = w.id
"""

[write.campaigns]
query = """
UPDATE mail_campaigns c SET delivered = w.sent, undelivered = w.failed
FROM unnest(:ids, :sent, :failed) AS w (id, sent, failed) WHERE c.id = w.id
"""

[write.mails]
query = """
UPDATE outbox o SET state = CASE w.state WHEN 'delivered' THEN 'sent' ELSE w.state END,
       message_id = w.message_id
FROM unnest(:keys, :states, :message_ids) AS w (key, state, message_id) WHERE o.id = w.key::bigint
"""
'''


@dataclasses.dataclass(frozen=True, slots=True)
class AppCampaign:
    """A campaign of an app: its id and its recipients', as text."""

    id: str
    recipients: tuple[str, ...]
    addresses: tuple[str, ...]


class Prisma:
    """An app with quoted camelCase tables and uuid ids."""

    contract = PRISMA_CONTRACT

    def __init__(self, raw: asyncpg.Connection[Any]) -> None:
        self.raw = raw

    async def create(self) -> None:
        await self.raw.execute(PRISMA_TABLES)

    async def campaign(self, recipients: int, **columns: Any) -> AppCampaign:
        given = {"name": "c", "subject": "Hi {{ firstName }}", "bodyHtml": "<p>x</p>"} | columns
        status = given.pop("status", "RUNNING")
        names = ", ".join(f'"{name}"' for name in given)
        places = ", ".join(f"${index + 2}" for index in range(len(given)))
        campaign = await self.raw.fetchval(
            f'INSERT INTO "Campaign" ("status", {names})'
            f' VALUES ($1::text::"CampaignStatus", {places}) RETURNING "id"',
            *(status, *given.values()),
        )
        addresses = [f"{uuid.uuid4().hex[:12]}@example.net" for _ in range(recipients)]
        rows = await self.raw.fetch(
            'INSERT INTO "Recipient" ("campaignId", "email", "firstName")'
            ' SELECT $1, unnest($2::text[]), \'Ada\' RETURNING "id", "email"',
            *(campaign, addresses),
        )
        return AppCampaign(
            str(campaign),
            tuple(str(row["id"]) for row in rows),
            tuple(row["email"] for row in rows),
        )

    def data(self, campaign: AppCampaign, index: int, step: int = 0) -> dict[str, Any]:
        data: dict[str, Any] = {
            "campaignId": campaign.id,
            "contact": {"id": campaign.recipients[index], "email": campaign.addresses[index]},
        }
        return data | ({"step": step} if step else {})

    async def statuses(self, campaign: AppCampaign) -> Mapping[str, int]:
        rows = await self.raw.fetch(
            'SELECT "status"::text, count(*) FROM "Recipient" WHERE "campaignId" = $1 GROUP BY 1',
            uuid.UUID(campaign.id),
        )
        return {row["status"]: row["count"] for row in rows}

    async def counts(self, campaign: AppCampaign) -> tuple[int, int]:
        row = await self.raw.fetchrow(
            'SELECT "sentCount", "failedCount" FROM "Campaign" WHERE "id" = $1',
            uuid.UUID(campaign.id),
        )
        assert row is not None
        return row["sentCount"], row["failedCount"]


class Drizzle:
    """An app with snake_case tables and bigint ids; its contacts are shared by campaigns."""

    contract = DRIZZLE_CONTRACT

    def __init__(self, raw: asyncpg.Connection[Any]) -> None:
        self.raw = raw

    async def create(self) -> None:
        await self.raw.execute(DRIZZLE_TABLES)

    async def campaign(self, recipients: int, *, state: str = "active") -> AppCampaign:
        campaign = await self.raw.fetchval(
            "INSERT INTO mail_campaigns (title, state, subject_line, body_text)"
            " VALUES ('c', $1, 'Hello {{ name }}', 'text') RETURNING id",
            state,
        )
        addresses = [f"{uuid.uuid4().hex[:12]}@example.net" for _ in range(recipients)]
        rows = await self.raw.fetch(
            "INSERT INTO contacts (email, full_name) SELECT unnest($1::text[]), 'Ada Lovelace'"
            " RETURNING id, email",
            addresses,
        )
        await self.raw.execute(
            "INSERT INTO campaign_contacts (campaign_id, contact_id)"
            " SELECT $1, unnest($2::bigint[])",
            *(campaign, [row["id"] for row in rows]),
        )
        return AppCampaign(
            str(campaign),
            tuple(str(row["id"]) for row in rows),
            tuple(row["email"] for row in rows),
        )

    def data(self, campaign: AppCampaign, index: int) -> dict[str, Any]:
        pair = {"campaign_id": int(campaign.id), "contact_id": campaign.recipients[index]}
        return {"data": pair}

    async def statuses(self, campaign: AppCampaign) -> Mapping[str, int]:
        rows = await self.raw.fetch(
            "SELECT delivery_state, count(*) FROM campaign_contacts WHERE campaign_id = $1"
            " GROUP BY 1",
            int(campaign.id),
        )
        return {row["delivery_state"]: row["count"] for row in rows}

    async def counts(self, campaign: AppCampaign) -> tuple[int, int]:
        row = await self.raw.fetchrow(
            "SELECT delivered, undelivered FROM mail_campaigns WHERE id = $1", int(campaign.id)
        )
        assert row is not None
        return row["delivered"], row["undelivered"]


App = Prisma | Drizzle
