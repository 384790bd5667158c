"""The five examples: what to ask each app's own tables, and what its producer reads in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """One app. Statements have the campaign's id as text for $1.

    `marked`: address and Message-ID of each mail that the app takes for sent. `counted`: what the
    app counts as sent and as failed, if it counts. `statuses`: its words, and how many have each.
    `people`: everybody's address. `forget`: addresses $1 want no mail; `words` are what its rows
    say of a mail sent, one that nobody wants, and one that the receiving server refuses. `steps`
    are mails to each recipient. `listed`: one job is for all. `id_field`: where a return value has
    the Message-ID. `blocked`: addresses that the app has been told to mail no more.
    """

    name: str
    marked: str
    counted: str | None
    statuses: str
    people: str
    forget: str
    words: tuple[str, str, str]
    returns: frozenset[str]
    id_field: str | None
    steps: int = 1
    listed: bool = False
    blocked: str | None = None

    @property
    def folder(self) -> Path:
        """Where the app is."""
        return FOLDER / self.name

    def wrong_ends(self, ended: Sequence[Any], message_ids: set[str]) -> int:
        """Count jobs that did not end as the app expects when every mail goes out."""
        return sum(not self._ends_well(one.get("returnvalue"), message_ids) for one in ended)

    def _ends_well(self, value: Any, message_ids: set[str]) -> bool:
        if not isinstance(value, dict) or set(value) != self.returns:
            return False
        if self.id_field is not None:
            return value[self.id_field] in message_ids
        # Mails of before a stop, or of the other worker, are skipped ones of the last run.
        done = int(value["sent"]) + int(value["skipped"])
        return bool(value["failed"] == 0 and done == value["total"])


EXAMPLES: dict[str, Example] = {
    one.name: one
    for one in (
        Example(
            "prisma-camelcase",
            marked='SELECT c."email", r."messageId" FROM "CampaignRecipient" r'
            ' JOIN "Contact" c ON c."id" = r."contactId"'
            ' WHERE r."campaignId"::text = $1 AND r."status" = \'SENT\' AND r."sentAt" IS NOT NULL',
            counted='SELECT "sentCount", "failedCount" FROM "Campaign" WHERE "id"::text = $1',
            statuses='SELECT "status"::text, count(*) FROM "CampaignRecipient"'
            ' WHERE "campaignId"::text = $1 GROUP BY 1',
            people='SELECT c."email" FROM "CampaignRecipient" r'
            ' JOIN "Contact" c ON c."id" = r."contactId" WHERE r."campaignId"::text = $1',
            forget='UPDATE "Contact" SET "unsubscribedAt" = now() WHERE "email" = ANY ($1)',
            words=("SENT", "SKIPPED", "BOUNCED"),
            returns=frozenset({"messageId"}),
            id_field="messageId",
        ),
        Example(
            "drizzle-snake-case",
            marked="SELECT s.email, cs.provider_message_id FROM campaign_subscribers cs"
            " JOIN subscribers s ON s.id = cs.subscriber_id WHERE cs.campaign_id::text = $1"
            " AND cs.delivery_status = 'delivered' AND cs.delivered_at IS NOT NULL",
            counted="SELECT delivered_count, undelivered_count FROM campaigns WHERE id::text = $1",
            statuses="SELECT delivery_status, count(*) FROM campaign_subscribers"
            " WHERE campaign_id::text = $1 GROUP BY 1",
            people="SELECT s.email FROM campaign_subscribers cs"
            " JOIN subscribers s ON s.id = cs.subscriber_id WHERE cs.campaign_id::text = $1",
            forget="INSERT INTO blocklist SELECT unnest($1::text[]), 'asked by mail'",
            words=("delivered", "skipped", "undeliverable"),
            returns=frozenset({"ok", "id"}),
            id_field="id",
            blocked="SELECT email FROM blocklist WHERE reason = 'hard_bounce'",
        ),
        Example(
            "recipient-list",
            marked="SELECT r.email, nr.message_id FROM newsletter_readers nr"
            " JOIN readers r ON r.id = nr.reader_id"
            " WHERE nr.newsletter_id::text = $1 AND nr.sent_at IS NOT NULL",
            counted="SELECT sent_total, failed_total FROM newsletters WHERE id::text = $1",
            statuses="SELECT CASE WHEN sent_at IS NOT NULL THEN 'sent'"
            " WHEN failed_reason IS NOT NULL THEN 'failed' ELSE 'open' END, count(*)"
            " FROM newsletter_readers WHERE newsletter_id::text = $1 GROUP BY 1",
            people="SELECT r.email FROM newsletter_readers nr JOIN readers r ON r.id = nr.reader_id"
            " WHERE nr.newsletter_id::text = $1",
            forget="UPDATE readers SET opted_out_at = now() WHERE email = ANY ($1)",
            words=("sent", "open", "failed"),
            returns=frozenset({"total", "sent", "skipped", "failed"}),
            id_field=None,
            listed=True,
        ),
        Example(
            "mail-in-payload",
            marked="SELECT recipient, message_id FROM outbox"
            " WHERE batch_id = $1 AND status = 'sent' AND sent_at IS NOT NULL",
            counted=None,
            statuses="SELECT status, count(*) FROM outbox WHERE batch_id = $1 GROUP BY 1",
            people="SELECT recipient FROM outbox WHERE batch_id = $1",
            forget="UPDATE outbox SET status = 'revoked' WHERE recipient = ANY ($1)",
            words=("sent", "revoked", "bounced"),
            returns=frozenset({"status", "messageId"}),
            id_field="messageId",
        ),
        Example(
            "follow-up-queue",
            marked='SELECT r.email, m."messageId" FROM mails m'
            ' JOIN recipients r ON r.id = m."recipientId"'
            ' WHERE r."campaignId" = $1 AND m.status = \'sent\' AND m."sentAt" IS NOT NULL',
            counted='SELECT "sentCount", "failedCount" FROM campaigns WHERE id = $1',
            statuses="SELECT m.status, count(*) FROM mails m"
            ' JOIN recipients r ON r.id = m."recipientId" WHERE r."campaignId" = $1 GROUP BY 1',
            people='SELECT email FROM recipients WHERE "campaignId" = $1',
            forget='UPDATE recipients SET "unsubscribedAt" = now() WHERE email = ANY ($1)',
            words=("sent", "skipped", "failed"),
            returns=frozenset({"success", "messageId"}),
            id_field="messageId",
            steps=2,
        ),
    )
}
