"""The campaign of a demo: its rows, written by SQL as an app would. Sends and enqueues nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from campaign_worker.demo.options import FOLLOW_UP_DELAY_SECONDS
from campaign_worker.storage.statements import quoted_schema

if TYPE_CHECKING:
    from asyncpg import Connection

SCHEMA = "campaign_worker"

_TABLES = quoted_schema(SCHEMA)
_CITIES = ("Zürich", "Łódź", "Reykjavík", "São Paulo", "Osaka")
_ADDRESS = re.compile(r"person-([1-9][0-9]{0,9})@demo\.example")
# A link that the template spells out, and one that is each recipient's own.
_NEWS = "https://shop.demo.example/news?from=mail&issue=1"
_CITY = "https://shop.demo.example/city/"
_AGAIN = "https://shop.demo.example/news?from=follow-up"
_FOOT = '<p><a href="{{ unsubscribe_url }}">No more mails</a></p>'
_FIRST_HTML = f"""\
<p>Hello {{{{ name }}}},</p>
<p>there is <a href="{_NEWS.replace("&", "&amp;")}">news</a>
from <a href="{_CITY}{{{{ city | urlencode }}}}">{{{{ city }}}}</a>.</p>
{_FOOT}
"""
_FOLLOW_UP_HTML = f"""\
<p>Hello {{{{ name }}}},</p>
<p>a moment ago we wrote to you about {{{{ city }}}}: <a href="{_AGAIN}">did you see it?</a></p>
{_FOOT}
"""
_TEMPLATE = (
    f"INSERT INTO {_TABLES}.templates (subject, html, text) VALUES ($1, $2, $3) RETURNING id"
)
_CAMPAIGN = f"INSERT INTO {_TABLES}.campaigns (name, template_id) VALUES ($1, $2) RETURNING id"
_FOLLOW_UP = (
    f"INSERT INTO {_TABLES}.follow_ups (campaign_id, step, template_id, delay_seconds)"
    " VALUES ($1, 1, $2, $3)"
)
_RECIPIENTS = (
    f"INSERT INTO {_TABLES}.recipients (campaign_id, email, name, data)"
    " SELECT $1, r.email, r.name, r.data::jsonb"
    " FROM unnest($2::text[], $3::text[], $4::text[]) AS r (email, name, data)"
)


def address(number: int) -> str:
    """Return the address of a recipient; numbers begin at 1."""
    return f"person-{number}@demo.example"


def number_of(address: str) -> int | None:
    """Return the number of a recipient; None when the address is nobody's."""
    found = _ADDRESS.fullmatch(address)
    return int(found[1]) if found else None


def destinations(number: int, *, first: bool) -> tuple[str, ...]:
    """Return where the links of a recipient's mail lead, in their order."""
    if not first:
        return (_AGAIN,)
    return (_NEWS, _CITY + quote(_city(number)))


def _city(number: int) -> str:
    return _CITIES[number % len(_CITIES)]


async def create_campaign(connection: Connection, recipients: int) -> int:
    """Write a campaign with one follow-up 3 seconds after the first mail; returns its id."""
    async with connection.transaction():
        first = await connection.fetchval(_TEMPLATE, "Hello {{ name }}", _FIRST_HTML, None)
        follow_up = await connection.fetchval(
            _TEMPLATE, "{{ name }}, did you see it?", _FOLLOW_UP_HTML, None
        )
        campaign_id = await connection.fetchval(_CAMPAIGN, "Demo", first)
        await connection.execute(_FOLLOW_UP, campaign_id, follow_up, FOLLOW_UP_DELAY_SECONDS)
        numbers = range(1, recipients + 1)
        await connection.execute(
            _RECIPIENTS,
            campaign_id,
            [address(number) for number in numbers],
            [f"Zoë {number}" for number in numbers],
            [json.dumps({"city": _city(number)}) for number in numbers],
        )
    return int(campaign_id)
