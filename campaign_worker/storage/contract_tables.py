"""An app's tables as the ledger and the jobs' processor see them, by a contract.

Owns which of the app's ids are which of ours. Decides nothing about a mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import idna
from asyncpg.pool import PoolConnectionProxy

from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.keys import value_of
from campaign_worker.contract.reading import Source
from campaign_worker.delivery.claims import MessageState, Missing
from campaign_worker.delivery.guard import AppFacts
from campaign_worker.delivery.requests import CampaignRequest, InlineRequest, Request
from campaign_worker.errors import ContractBroken
from campaign_worker.storage import contract_rows
from campaign_worker.storage.batcher import Batcher
from campaign_worker.storage.contract_import import ContractImport
from campaign_worker.storage.contract_sql import ContractSql
from campaign_worker.storage.contract_write import ContractWrite
from campaign_worker.storage.database import Database
from metrics import Listener

_KNOWN_MAX = 100_000
_REASON_MAX = 40
_NO_WORD = re.compile(r"[^a-z0-9]+")

Resolved = CampaignRequest | Missing


class AppTables:
    """The tables of one app. All methods raise DatabaseAway, which ContractBroken is one of.

    `normalize` gives the form in which suppressions are kept.
    """

    def __init__(
        self,
        database: Database,
        source: Source,
        *,
        normalize: Callable[[str], str],
        listener: Listener,
        on_broken: Callable[[ContractBroken], None],
    ) -> None:
        self._database = database
        self.contract = source.contract
        self._normalize = normalize
        self._app = ContractSql(source)
        self.importing = ContractImport(source.contract, self._app, database.sql)
        self.writing = ContractWrite(source.contract, self._app, database.sql, on_broken)
        self._resolving: Batcher[AppMail, Resolved] = Batcher("import", self._resolve, listener)
        self._known: OrderedDict[AppMail, CampaignRequest] = OrderedDict()

    async def resolve(self, mail: AppMail) -> Resolved:
        """Say which of our rows this mail is, importing what it needs; Missing: not in the app."""
        known = self._known.get(mail)
        if known is not None:
            return known
        return await asyncio.shield(self._resolving.submit(mail))

    async def resolve_all(self, mails: Sequence[AppMail]) -> list[Resolved]:
        """Resolve several."""
        return list(await asyncio.gather(*(self.resolve(mail) for mail in mails)))

    async def refresh(
        self, connection: PoolConnectionProxy, requests: Sequence[Request]
    ) -> Mapping[Request | str, AppFacts]:
        """Read the app's rows anew for a claim, in its transaction; facts by request, or by key."""
        mails = [one for one in requests if isinstance(one, CampaignRequest)]
        keys = [one.key for one in requests if isinstance(one, InlineRequest)]
        facts: dict[Request | str, AppFacts] = {}
        if mails:
            facts |= await self._refresh_campaigns(connection, mails)
        if keys:
            facts |= await self._refresh_mails(connection, keys)
        return facts

    async def suppressed(
        self, connection: PoolConnectionProxy, addresses: Sequence[str]
    ) -> dict[str, str]:
        """Give those of these normalized addresses that the app suppresses, with its reasons."""
        if not addresses or "load.suppressions" not in self._app:
            return {}
        values = {"emails": [spelling for one in addresses for spelling in _spellings(one)]}
        rows = await self._app.fetch(connection, "load.suppressions", values)
        return {
            self._normalize(row["email"]): _reason(row.get("reason"))
            for row in rows
            if row["email"] is not None
        }

    async def tell(self, connection: PoolConnectionProxy, message_ids: Sequence[int]) -> None:
        """Tell the app what became of these messages, in the transaction that has written it."""
        if message_ids:
            await self.writing.tell(connection, message_ids)

    async def standing(
        self, requests: Sequence[CampaignRequest]
    ) -> dict[CampaignRequest, MessageState]:
        """Say in which state the rows are that exist."""
        rows = await self._database.fetch(
            "contract_standing",
            list(range(len(requests))),
            [one.campaign_id for one in requests],
            [one.recipient_id for one in requests],
            [one.step for one in requests],
        )
        return {requests[row["ord"]]: MessageState(row["state"]) for row in rows}

    async def mails_of(self, requests: Sequence[CampaignRequest]) -> dict[CampaignRequest, AppMail]:
        """Give the app's names for rows of ours."""
        async with self._database.transaction() as connection:
            found = await self._keys(connection, requests)
        return {request: mails[0] for request, mails in found.items()}

    async def campaign_of(self, campaign_id: int) -> str | None:
        """Give the app's id of a campaign of ours; None: it is not the app's."""
        rows = await self._database.fetch("contract_campaign_key", campaign_id)
        return rows[0]["key"] if rows else None

    async def audience(self, campaign: str, after: str | None, limit: int) -> list[str]:
        """Give a page of a campaign's recipients, by the app's ids."""
        kinds = self.contract.ids
        values: dict[str, Any] = {
            "campaign_id": value_of(campaign, kinds.campaign),
            "after": None if after is None else value_of(after, kinds.recipient),
            "limit": limit,
        }
        async with self._database.transaction() as connection:
            rows = await self._app.fetch(connection, "load.audience", values)
        return [str(row["id"]) for row in rows]

    async def make_rows(self, requests: Sequence[CampaignRequest], queue: str) -> None:
        """Make the rows of first mails that have none."""
        count = len(requests)
        await self._database.fetch(
            "ensure_campaign_messages",
            [one.campaign_id for one in requests],
            [one.recipient_id for one in requests],
            [one.step for one in requests],
            [queue] * count,
            [None] * count,
            [None] * count,
        )

    async def _resolve(self, mails: Sequence[AppMail]) -> list[Resolved]:
        async with self._database.transaction() as connection:
            found = await self.importing.run(connection, mails)
        answers = [found.request(mail) for mail in mails]
        for mail, answer in zip(mails, answers, strict=True):
            # An app may number its follow-ups anew; which recipient is which stays.
            if isinstance(answer, CampaignRequest) and mail.step_id is None:
                self._known[mail] = answer
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return answers

    async def _refresh_campaigns(
        self, connection: PoolConnectionProxy, requests: Sequence[CampaignRequest]
    ) -> dict[Request | str, AppFacts]:
        names = await self._keys(connection, requests)
        mails = [mail for several in names.values() for mail in several]
        found = await self.importing.run(connection, mails)
        facts: dict[Request | str, AppFacts] = {}
        for request, several in names.items():
            pairs = [(mail.campaign, mail.recipient) for mail in several]
            rows = [found.people[pair] for pair in pairs if pair in found.people]
            facts[request] = contract_rows.facts_of(rows)
        return facts

    async def _refresh_mails(
        self, connection: PoolConnectionProxy, keys: Sequence[str]
    ) -> dict[Request | str, AppFacts]:
        if "write.mails" in self._app:
            await connection.execute(self._database.sql["contract_note_mails"], list(keys))
        if "load.mails" not in self._app:
            return {}
        rows = await self._app.fetch(connection, "load.mails", {"keys": list(keys)})
        return {
            str(row["key"]): AppFacts(
                cancelled=bool(row.get("cancelled")), sent_step=0 if row.get("sent") else -1
            )
            for row in rows
        }

    async def _keys(
        self, connection: PoolConnectionProxy, requests: Sequence[CampaignRequest]
    ) -> dict[CampaignRequest, list[AppMail]]:
        rows = await connection.fetch(
            self._database.sql["contract_keys"],
            list(range(len(requests))),
            [one.campaign_id for one in requests],
            [one.recipient_id for one in requests],
            [one.step for one in requests],
        )
        names: dict[CampaignRequest, list[AppMail]] = {}
        for row in rows:
            request = requests[row["ord"]]
            mail = AppMail(row["campaign_key"], row["recipient_key"], request.step, row["step_key"])
            names.setdefault(request, []).append(mail)
        return names


def _spellings(address: str) -> Iterator[str]:
    """Give a normalized address, and what an app that knows no A-labels calls it."""
    yield address
    local, _, domain = address.rpartition("@")
    if "xn--" in domain:
        with contextlib.suppress(UnicodeError):
            yield f"{local}@{idna.decode(domain)}"


def _reason(text: str | None) -> str:
    """Give the app's word for a reason in a form that fits into ours."""
    return _NO_WORD.sub("_", (text or "").lower()).strip("_")[:_REASON_MAX] or "by_the_app"
