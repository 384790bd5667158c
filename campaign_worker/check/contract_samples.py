"""Sample rows of a contract's SELECTs, for the ids of jobs that wait; addresses are masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.keys import value_of
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
    few = list(dict.fromkeys(mails))[:_ASKED_FOR]
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
