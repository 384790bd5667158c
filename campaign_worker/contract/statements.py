"""The statements of a contract: which parameters each has, which columns it must and may give.

Pure: types are compared by the names that Postgres gives them; who asks Postgres is storage.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from campaign_worker.contract.model import Contract, IdKind, Ids, Statement


class Form(enum.Enum):
    """What a column may hold; `words` are the types that do, for people."""

    TEXT = "text, varchar, citext or an enum"
    NUMBER = "smallint, integer, bigint or numeric"
    INTEGER = "smallint, integer or bigint"
    TRUTH = "boolean"
    JSON = "json or jsonb"
    CAMPAIGN_ID = "as [ids] campaign says"
    RECIPIENT_ID = "as [ids] recipient says"
    ANY = "any type"


_TEXTS = {"text", "varchar", "bpchar", "name", "citext"}
_INTEGERS = {"int2", "int4", "int8"}
_OF_KIND = {
    IdKind.UUID: {"uuid"},
    IdKind.BIGINT: {"int8"},
    IdKind.INTEGER: {"int4"},
    IdKind.TEXT: {"text", "varchar", "bpchar", "citext"},
}
_PLAIN = {
    Form.NUMBER: _INTEGERS | {"numeric", "float4", "float8"},
    Form.INTEGER: _INTEGERS,
    Form.TRUTH: {"bool"},
    Form.JSON: {"json", "jsonb"},
}


def fits(form: Form, type_name: str, type_schema: str, ids: Ids) -> bool:
    """Whether a column of this type (pg_type.typname and its schema) serves."""
    match form:
        case Form.ANY:
            return True
        case Form.TEXT:
            return type_name in _TEXTS or type_schema != "pg_catalog"
        case Form.CAMPAIGN_ID:
            return type_name in _OF_KIND[ids.campaign]
        case Form.RECIPIENT_ID:
            return type_name in _OF_KIND[ids.recipient]
        case _:
            return type_name in _PLAIN[form]


@dataclass(frozen=True, slots=True)
class Spec:
    """What one statement is given and gives. Parameter types may hold {campaign} and {recipient}.

    `free`: other columns are variables of templates. `needs_one_of`: names of which one must be.
    """

    place: str
    about: str
    parameters: Mapping[str, str]
    required: Mapping[str, Form]
    optional: Mapping[str, Form]
    of: Callable[[Contract], Statement | None]
    free: bool = False
    needs_one_of: tuple[str, ...] = ()

    def types(self, ids: Ids) -> dict[str, str]:
        """Give each parameter's type."""
        return {
            name: text.format(campaign=ids.campaign.value, recipient=ids.recipient.value)
            for name, text in self.parameters.items()
        }


_COUNTS = ("sent", "failed", "skipped", "in_doubt", "bounced", "opened", "clicked", "unsubscribed")

SPECS: tuple[Spec, ...] = (
    Spec(
        "load.campaigns",
        "Campaigns by id, many at once.",
        {"ids": "{campaign}[]"},
        {"id": Form.CAMPAIGN_ID, "status": Form.TEXT, "subject": Form.TEXT},
        {
            "html": Form.TEXT,
            "text": Form.TEXT,
            "name": Form.TEXT,
            "mail_from": Form.TEXT,
            "reply_to": Form.TEXT,
            "transport": Form.TEXT,
            "headers": Form.JSON,
            "track_opens": Form.TRUTH,
            "track_clicks": Form.TRUTH,
            "track_text": Form.TRUTH,
        },
        lambda contract: contract.load.campaigns,
        needs_one_of=("html", "text"),
    ),
    Spec(
        "load.recipients",
        "Recipients, many at once: the n-th of :ids is one of the n-th of :campaign_ids. Without "
        "a column campaign_id an id is taken to be of each campaign that it is asked for with. "
        "sent says that the app has sent the first mail itself, sent_step up to which step it has.",
        {"ids": "{recipient}[]", "campaign_ids": "{campaign}[]"},
        {"id": Form.RECIPIENT_ID, "email": Form.TEXT},
        {
            "campaign_id": Form.CAMPAIGN_ID,
            "name": Form.TEXT,
            "unsubscribed": Form.TRUTH,
            "replied": Form.TRUTH,
            "sent": Form.TRUTH,
            "sent_step": Form.INTEGER,
            "opened": Form.TRUTH,
            "clicked": Form.TRUTH,
            "data": Form.JSON,
        },
        lambda contract: contract.load.recipients,
        free=True,
    ),
    Spec(
        "load.steps",
        "Follow-ups of campaigns, many at once. delay_seconds counts from the mail before.",
        {"ids": "{campaign}[]"},
        {"campaign_id": Form.CAMPAIGN_ID, "step": Form.INTEGER, "subject": Form.TEXT},
        {
            "id": Form.ANY,
            "html": Form.TEXT,
            "text": Form.TEXT,
            "delay_seconds": Form.NUMBER,
            "condition": Form.TEXT,
            "stop_on_reply": Form.TRUTH,
        },
        lambda contract: contract.load.steps,
        needs_one_of=("html", "text"),
    ),
    Spec(
        "load.audience",
        "A page of a campaign's recipients in the order of id; :after is the last id of the page "
        "before, null for the first.",
        {"campaign_id": "{campaign}", "after": "{recipient}", "limit": "integer"},
        {"id": Form.RECIPIENT_ID},
        {},
        lambda contract: contract.load.audience,
    ),
    Spec(
        "load.suppressions",
        "Which of these addresses must not be mailed. They are lower case; one whose domain is not "
        "ASCII stands there twice, in both spellings of it.",
        {"emails": "text[]"},
        {"email": Form.TEXT},
        {"reason": Form.TEXT},
        lambda contract: contract.load.suppressions,
    ),
    Spec(
        "load.mails",
        "What the app knows of whole mails by their keys: sent by itself, or cancelled.",
        {"keys": "text[]"},
        {"key": Form.TEXT},
        {"sent": Form.TRUTH, "cancelled": Form.TRUTH},
        lambda contract: contract.load.mails,
    ),
    Spec(
        "write.recipients",
        "Endings of mails: arrays of the same length, one element for each mail. Each is what the "
        "row says now, so that writing it twice is writing it once.",
        {
            "recipient_ids": "{recipient}[]",
            "campaign_ids": "{campaign}[]",
            "steps": "integer[]",
            "states": "text[]",
            "reasons": "text[]",
            "message_ids": "text[]",
            "sent_ats": "timestamptz[]",
            "ended_ats": "timestamptz[]",
            "attempts": "integer[]",
        },
        {},
        {},
        lambda contract: contract.write.recipients,
    ),
    Spec(
        "write.campaigns",
        "Counts of campaigns: absolute, as our rows are; with _added, by how much each has changed "
        "since it was last written, for apps whose own workers count as well.",
        {
            "ids": "{campaign}[]",
            **dict.fromkeys(_COUNTS, "bigint[]"),
            **{f"{name}_added": "bigint[]" for name in _COUNTS},
        },
        {},
        {},
        lambda contract: contract.write.campaigns,
    ),
    Spec(
        "write.mails",
        "Endings of whole mails by their keys; arrays as of write.recipients.",
        {
            "keys": "text[]",
            "states": "text[]",
            "reasons": "text[]",
            "message_ids": "text[]",
            "sent_ats": "timestamptz[]",
            "ended_ats": "timestamptz[]",
            "attempts": "integer[]",
        },
        {},
        {},
        lambda contract: contract.write.mails,
    ),
    Spec(
        "write.suppressions",
        "Addresses (lower case) that bounced, complained or unsubscribed here, each once; :reasons"
        " are hard_bounce, complaint, unsubscribe and manual.",
        {"emails": "text[]", "reasons": "text[]", "created_ats": "timestamptz[]"},
        {},
        {},
        lambda contract: contract.write.suppressions,
    ),
)

COUNTS = _COUNTS


def given(contract: Contract) -> Iterator[tuple[Spec, Statement]]:
    """Those statements that a contract has."""
    for spec in SPECS:
        statement = spec.of(contract)
        if statement is not None:
            yield spec, statement
