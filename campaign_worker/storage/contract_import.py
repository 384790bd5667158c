"""Copies what a claim needs of an app's tables into ours: templates, campaigns, recipients, steps.

Everything in the caller's transaction, in batches, and written only where it says something new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.keys import value_of
from campaign_worker.contract.model import CampaignStatus, Contract
from campaign_worker.delivery.claims import Missing
from campaign_worker.delivery.requests import CampaignRequest
from campaign_worker.storage import contract_rows as rows_
from campaign_worker.storage.contract_rows import AppStep, Texts
from campaign_worker.storage.contract_sql import ContractSql

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Imported:
    """What was found: our ids by the app's, and the app's rows.

    `recipients` are by campaign's and recipient's key; so are `people`, the app's own rows. `steps`
    are numbers of follow-ups by the app's ids of campaign and follow-up.
    """

    campaigns: dict[str, int] = field(default_factory=dict)
    recipients: dict[tuple[str, str], int] = field(default_factory=dict)
    people: dict[tuple[str, str], Any] = field(default_factory=dict)
    steps: dict[tuple[str, str], int] = field(default_factory=dict)

    def request(self, mail: AppMail) -> CampaignRequest | Missing:
        """Say which of our rows a mail is."""
        pair = (mail.campaign, mail.recipient)
        if mail.campaign not in self.campaigns:
            return Missing("campaign", "the app has no campaign of this id")
        if pair not in self.people:
            return Missing("recipient", "the app has no recipient of this id")
        if pair not in self.recipients:
            return Missing("recipient", "its address is none")
        step = mail.step
        if mail.step_id is not None:
            if (mail.campaign, mail.step_id) not in self.steps:
                return Missing("step_id", "the app has no follow-up of this id")
            step = self.steps[mail.campaign, mail.step_id]
        return CampaignRequest(self.campaigns[mail.campaign], self.recipients[pair], step)


class ContractImport:
    """Imports by one contract. `sql` are our own statements by name."""

    def __init__(self, contract: Contract, app: ContractSql, sql: Mapping[str, str]) -> None:
        self._contract = contract
        self._app = app
        self._sql = sql
        self._said: set[tuple[int, str | None]] = set()

    async def run(self, connection: PoolConnectionProxy, mails: Sequence[AppMail]) -> Imported:
        """Import the campaigns and recipients of these mails; absent ones are left out."""
        found = await self.campaigns(connection, sorted({mail.campaign for mail in mails}))
        pairs = sorted(
            {(mail.campaign, mail.recipient) for mail in mails if mail.campaign in found.campaigns}
        )
        if pairs:
            found.people = await self._people(connection, pairs)
            await self._recipients(connection, found)
        return found

    async def campaigns(self, connection: PoolConnectionProxy, keys: Sequence[str]) -> Imported:
        """Import campaigns with their follow-ups; nobody's recipients."""
        if not keys or "load.campaigns" not in self._app:
            return Imported()
        kind = self._contract.ids.campaign
        values = {"ids": [value_of(key, kind) for key in keys]}
        rows = {
            str(row["id"]): row
            for row in await self._app.fetch(connection, "load.campaigns", values)
        }
        steps = await self._steps(connection, values)
        texts = [rows_.texts_of(row) for row in rows.values()] + [one.texts for one in steps]
        templates = await self._templates(connection, texts)
        ids = await self._campaign_ids(connection, rows, templates)
        if rows:
            await self._update_campaigns(connection, rows, ids, templates)
            await self._write_steps(connection, ids, steps, templates)
        numbers = {(one.campaign, one.key): one.step for one in steps if one.key is not None}
        return Imported(campaigns=ids, steps=numbers)

    async def _steps(
        self, connection: PoolConnectionProxy, values: Mapping[str, Any]
    ) -> list[AppStep]:
        if "load.steps" not in self._app:
            return []
        found = await self._app.fetch(connection, "load.steps", values)
        steps = [rows_.step_of(row) for row in found if rows_.usable_step(row)]
        return list({(one.campaign, one.step): one for one in steps}.values())

    async def _templates(
        self, connection: PoolConnectionProxy, texts: Sequence[Texts]
    ) -> dict[Texts, int]:
        by_digest = {one.digest: one for one in texts}
        digests = sorted(by_digest)
        found = await self._read_templates(connection, digests)
        missing = [digest for digest in digests if digest not in found]
        if missing:
            new = [by_digest[digest] for digest in missing]
            await connection.execute(
                self._sql["contract_make_templates"],
                missing,
                [one.subject for one in new],
                [one.html for one in new],
                [one.text for one in new],
            )
            found = await self._read_templates(connection, digests)
        return {one: found[digest] for digest, one in by_digest.items()}

    async def _read_templates(
        self, connection: PoolConnectionProxy, digests: Sequence[str]
    ) -> dict[str, int]:
        if not digests:
            return {}
        rows = await connection.fetch(self._sql["contract_read_templates"], digests)
        return {row["digest"]: row["template_id"] for row in rows}

    async def _campaign_ids(
        self,
        connection: PoolConnectionProxy,
        rows: Mapping[str, Any],
        templates: Mapping[Texts, int],
    ) -> dict[str, int]:
        keys = sorted(rows)
        found = await self._read_campaigns(connection, keys)
        missing = [key for key in keys if key not in found]
        if missing:
            await connection.execute(self._sql["contract_lock"])
            await connection.fetch(
                self._sql["contract_make_campaigns"],
                missing,
                [templates[rows_.texts_of(rows[key])] for key in missing],
            )
            found = await self._read_campaigns(connection, keys)
        return found

    async def _read_campaigns(
        self, connection: PoolConnectionProxy, keys: Sequence[str]
    ) -> dict[str, int]:
        rows = await connection.fetch(self._sql["contract_read_campaigns"], keys)
        return {row["key"]: row["campaign_id"] for row in rows}

    async def _update_campaigns(
        self,
        connection: PoolConnectionProxy,
        rows: Mapping[str, Any],
        ids: Mapping[str, int],
        templates: Mapping[Texts, int],
    ) -> None:
        columns = [self._campaign(ids[key], row, templates) for key, row in rows.items()]
        await connection.execute(
            self._sql["contract_update_campaigns"],
            *(list(column) for column in zip(*columns, strict=True)),
        )

    def _campaign(self, campaign_id: int, row: Any, templates: Mapping[Texts, int]) -> list[Any]:
        status = rows_.status_of(self._contract, row["status"])
        if status is None and (campaign_id, row["status"]) not in self._said:
            self._said.add((campaign_id, row["status"]))
            log.error(
                "campaign rests: the contract has no such status",
                campaign=campaign_id,
                status=row["status"],
            )
        track = [rows_.get(row, name) for name in ("track_opens", "track_clicks", "track_text")]
        return [
            campaign_id,
            rows_.get(row, "name") or str(row["id"]),
            (status or CampaignStatus.PAUSED).value,
            templates[rows_.texts_of(row)],
            rows_.get(row, "mail_from"),
            rows_.get(row, "reply_to"),
            rows_.get(row, "transport") or "default",
            rows_.headers_of(row),
            track[0] is not False,
            track[1] is not False,
            bool(track[2]),
        ]

    async def _write_steps(
        self,
        connection: PoolConnectionProxy,
        ids: Mapping[str, int],
        steps: Sequence[AppStep],
        templates: Mapping[Texts, int],
    ) -> None:
        if "load.steps" not in self._app:
            return
        known = [one for one in steps if one.campaign in ids]
        campaigns, numbers = [ids[one.campaign] for one in known], [one.step for one in known]
        if known:
            await connection.execute(
                self._sql["contract_write_steps"],
                campaigns,
                numbers,
                [templates[one.texts] for one in known],
                [one.delay_seconds for one in known],
                [one.condition for one in known],
                [one.stop_on_reply for one in known],
                [one.key for one in known],
                self._contract.follow_ups.scheduled_by == "app",
            )
        await connection.execute(
            self._sql["contract_drop_steps"], sorted(ids.values()), campaigns, numbers
        )

    async def _people(
        self, connection: PoolConnectionProxy, pairs: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Any]:
        kinds = self._contract.ids
        values = {
            "campaign_ids": [value_of(campaign, kinds.campaign) for campaign, _ in pairs],
            "ids": [value_of(recipient, kinds.recipient) for _, recipient in pairs],
        }
        found = await self._app.fetch(connection, "load.recipients", values)
        wanted = set(pairs)
        by_recipient: dict[str, list[str]] = {}
        for campaign, recipient in pairs:
            by_recipient.setdefault(recipient, []).append(campaign)
        people: dict[tuple[str, str], Any] = {}
        for row in found:
            key, given = str(row["id"]), rows_.get(row, "campaign_id")
            campaigns = by_recipient.get(key, []) if given is None else [str(given)]
            people.update({(one, key): row for one in campaigns if (one, key) in wanted})
        return people

    async def _recipients(self, connection: PoolConnectionProxy, found: Imported) -> None:
        usable = {
            pair: row for pair, row in found.people.items() if rows_.usable_email(row["email"])
        }
        ids = [found.campaigns[campaign] for campaign, _ in usable]
        keys = [key for _, key in usable]
        emails = [row["email"] for row in usable.values()]
        mapped = await self._mapped(connection, found.campaigns, ids, keys)
        if len(mapped) < len(usable):
            await connection.execute(self._sql["contract_make_recipients"], ids, keys, emails)
            await connection.execute(self._sql["contract_map_recipients"], ids, keys, emails)
            mapped = await self._mapped(connection, found.campaigns, ids, keys)
        found.recipients = mapped
        taken = [(mapped[pair], row) for pair, row in usable.items() if pair in mapped]
        if taken:
            await connection.execute(
                self._sql["contract_update_recipients"],
                [recipient for recipient, _ in taken],
                [row["email"] for _, row in taken],
                [rows_.get(row, "name") for _, row in taken],
                [rows_.data_of(row) for _, row in taken],
                [bool(rows_.get(row, "unsubscribed")) for _, row in taken],
                [bool(rows_.get(row, "replied")) for _, row in taken],
            )

    async def _mapped(
        self,
        connection: PoolConnectionProxy,
        campaigns: Mapping[str, int],
        ids: Sequence[int],
        keys: Sequence[str],
    ) -> dict[tuple[str, str], int]:
        names = {campaign_id: key for key, campaign_id in campaigns.items()}
        rows = await connection.fetch(self._sql["contract_read_recipients"], ids, keys)
        return {(names[row["campaign_id"]], row["key"]): row["recipient_id"] for row in rows}
