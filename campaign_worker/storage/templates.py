"""Templates and the rows of their links, loaded once: neither ever changes.

What a transaction has written is remembered only after its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg.pool import PoolConnectionProxy

from campaign_worker.delivery.claims import CampaignContent
from campaign_worker.delivery.model import Template
from campaign_worker.storage.claim_rows import campaign_content

_KEPT = 1000

LinkIds = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Templates by id, and the ids of their links by position; None where the row is not theirs."""

    templates: Mapping[int, Template]
    link_ids: Mapping[int, LinkIds]

    def content(self, row: Any) -> CampaignContent:
        """Give what a campaign's mail is made of; `row` is one of read_for_claim."""
        template_id = row["template_id"]
        return campaign_content(
            row, self.templates[template_id], self.link_ids.get(template_id, ())
        )


class TemplateRows:
    """Loads what claims need. `static_links` gives a template's own URLs, or None: no tracking."""

    def __init__(
        self, sql: Mapping[str, str], static_links: Callable[[Template], Sequence[str]] | None
    ) -> None:
        self._sql = sql
        self._static_links = static_links
        self._templates: dict[int, Template] = {}
        self._link_ids: dict[int, LinkIds] = {}

    async def load(self, connection: PoolConnectionProxy, rows: Sequence[Any]) -> Loaded:
        """Give what these rows of read_for_claim need; links without a row of theirs get one."""
        wanted = {row["template_id"] for row in rows if row["template_id"] is not None}
        templates = {one: self._templates[one] for one in wanted & self._templates.keys()}
        missing = sorted(wanted - templates.keys())
        if missing:
            for row in await connection.fetch(self._sql["load_templates"], missing):
                templates[row["id"]] = Template(row["id"], row["subject"], row["html"], row["text"])
        clicked = {row["template_id"] for row in rows if row["track_clicks"]} & wanted
        link_ids = {one: self._link_ids[one] for one in clicked & self._link_ids.keys()}
        unknown = [templates[one] for one in sorted(clicked - link_ids.keys())]
        if unknown and self._static_links is not None:
            link_ids |= await self._load_links(connection, unknown, self._static_links)
        return Loaded(templates, link_ids)

    def keep(self, loaded: Loaded) -> None:
        """Remember what was loaded; its transaction has committed."""
        new = loaded.templates.keys() - self._templates.keys()
        if len(self._templates) + len(new) > _KEPT:
            self._templates.clear()
            self._link_ids.clear()
        self._templates.update(loaded.templates)
        self._link_ids.update(loaded.link_ids)

    async def _load_links(
        self,
        connection: PoolConnectionProxy,
        templates: Iterable[Template],
        static_links: Callable[[Template], Sequence[str]],
    ) -> dict[int, LinkIds]:
        urls = {template.id: static_links(template) for template in templates}
        places = [(one, place, url) for one in urls for place, url in enumerate(urls[one])]
        if not places:
            return dict.fromkeys(urls, ())
        found = await self._read_links(connection, list(urls))
        if any((one, place) not in found for one, place, _ in places):
            columns = [list(column) for column in zip(*places, strict=True)]
            await connection.execute(self._sql["register_links"], *columns)
            found = await self._read_links(connection, list(urls))
        return {
            one: tuple(_own_id(found[one, place], url) for place, url in enumerate(urls[one]))
            for one in urls
        }

    async def _read_links(
        self, connection: PoolConnectionProxy, template_ids: Sequence[int]
    ) -> dict[tuple[int, int], Any]:
        rows = await connection.fetch(self._sql["read_links"], template_ids)
        return {(row["template_id"], row["position"]): row for row in rows}


def _own_id(row: Any, url: str) -> int | None:
    """Give the row's id, unless another version of the program counted the links differently."""
    return int(row["id"]) if row["url"] == url else None
