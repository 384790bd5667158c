"""Sample rows of a contract's SELECTs, for the ids of jobs that wait; addresses are masked."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.keys import value_of
from campaign_worker.contract.model import MailState
from campaign_worker.contract.reading import Source
from campaign_worker.errors import ContractError, ContractProblem
from campaign_worker.masking import clean
from campaign_worker.storage.contract_probe import ContractProbe

_ASKED_FOR = 20
_CUT = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of one SELECT, masked; `asked` ids gave `found` rows. `problem`: it did not run."""

    place: str
    asked: int
    found: int
    row: Mapping[str, str] | None
    problem: ContractProblem | None = None


async def samples(probe: ContractProbe, source: Source, mails: Sequence[AppMail]) -> list[Sample]:
    """Load some of these mails' campaigns and recipients."""
    if not mails:
        return []
    # The steps of a campaign ask for the same pair.
    pairs = dict.fromkeys(AppMail(mail.campaign, mail.recipient) for mail in mails)
    few = list(pairs)[:_ASKED_FOR]
    ids, loads = source.contract.ids, source.contract.load
    campaigns = [value_of(mail.campaign, ids.campaign) for mail in few]
    recipients = [value_of(mail.recipient, ids.recipient) for mail in few]
    wanted: list[tuple[str, dict[str, Any], int]] = []
    if loads.campaigns is not None:
        distinct = list(dict.fromkeys(campaigns))
        wanted.append(("load.campaigns", {"ids": distinct}, len(distinct)))
    if loads.recipients is not None:
        values = {"ids": recipients, "campaign_ids": campaigns}
        wanted.append(("load.recipients", values, len(few)))
    if loads.steps is not None:
        wanted.append(("load.steps", {"ids": list(dict.fromkeys(campaigns))}, 0))
    return [await _sample(probe, place, values, count) for place, values, count in wanted]


async def word_trials(
    probe: ContractProbe, source: Source, mails: Sequence[AppMail]
) -> list[ContractProblem]:
    """Write each word of [write.states] to the row of one of these mails, and take it back.

    Only a row shows that an enum has no such value, or that a constraint does not like it.
    """
    if not mails or source.contract.write.recipients is None:
        return []
    ids, mail = source.contract.ids, mails[0]
    told = dt.datetime.now(dt.UTC)
    problems = []
    for state, word in source.contract.write.states.items():
        values = {
            "recipient_ids": [value_of(mail.recipient, ids.recipient)],
            "campaign_ids": [value_of(mail.campaign, ids.campaign)],
            "steps": [mail.step],
            "states": [word],
            "reasons": [None if state is MailState.SENT else "rejected"],
            "message_ids": ["<trial@example.org>"],
            "sent_ats": [told if state is MailState.SENT else None],
            "ended_ats": [told],
            "attempts": [1],
        }
        try:
            await probe.sample("write.recipients", values)
        except ContractError as error:
            first = error.problems[0]
            said = f"the word {word!r} for {state.value}: {first.problem}"
            problems.append(dataclasses.replace(first, problem=said))
    return problems


def missing_rows(taken: Sequence[Sample]) -> list[str]:
    """Say of which SELECTs the ids of waiting jobs were not all found."""
    return [
        f"{one.place}: {one.asked - one.found} of {one.asked} ids of waiting jobs are not found"
        for one in taken
        if one.problem is None and one.found < one.asked
    ]


async def _sample(
    probe: ContractProbe, place: str, values: Mapping[str, Any], asked: int
) -> Sample:
    try:
        rows = await probe.sample(place, values)
    except ContractError as error:
        return Sample(place, asked, 0, None, error.problems[0])
    first = {name: _shown(name, value) for name, value in rows[0].items()} if rows else None
    return Sample(place, asked, len(rows), first)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "null"
    text = str(clean(value, addresses=False)) if name != "email" else "[address]"
    return text if len(text) <= _CUT else f"{text[:_CUT]}..."
