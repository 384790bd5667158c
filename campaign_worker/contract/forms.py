"""Jobs that this program has to add, in the form of the app's own: Node workers read them as well.

What no job of the contract can say goes in a form of our own, which no Node worker takes for one of
its own: the app's ids and ours must never be mistaken for each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from campaign_worker.contract.asked import AppMail
from campaign_worker.contract.model import Contract
from campaign_worker.contract.payload import OWN_FIELD, OWN_JOB, campaign_paths, job_for
from campaign_worker.contract.ports import MailsOf
from campaign_worker.delivery.requests import CampaignRequest

Form = tuple[str, dict[str, Any]]
"""A job's name and data."""


class AppForms:
    """Gives jobs their form. `mails_of` and `campaign_of` say what the app calls rows of ours."""

    def __init__(
        self,
        contract: Contract,
        mails_of: MailsOf,
        campaign_of: Callable[[int], Awaitable[str | None]],
    ) -> None:
        self._contract = contract
        self._mails_of = mails_of
        self._campaign_of = campaign_of

    async def __call__(self, queue: str, jobs: Sequence[Form]) -> list[Form]:
        """Give name and data of each job of ours. Raises errors.DatabaseAway."""
        requests = [_request(data) for _, data in jobs]
        known = [one for one in requests if one is not None]
        names = await self._mails_of(known) if known else {}
        return [
            self._form(queue, data, None if request is None else names.get(request))
            for (_, data), request in zip(jobs, requests, strict=True)
        ]

    async def jobs_of(
        self, queue: str, campaign_id: int
    ) -> tuple[str, tuple[str, ...], tuple[str, ...]] | None:
        """Tell a campaign's jobs: its id in the app, their names, the fields that may hold it.

        Only jobs that have it at the top of their data. None: there are none. Raises DatabaseAway.
        """
        paths = campaign_paths(self._contract, queue)
        key = await self._campaign_of(campaign_id) if paths else None
        if key is None:
            return None
        return key, tuple(paths), tuple(dict.fromkeys(paths.values()))

    def _form(self, queue: str, data: dict[str, Any], mail: AppMail | None) -> Form:
        form = None if mail is None else job_for(self._contract, queue, mail)
        return form or (OWN_JOB, {OWN_FIELD: data})


def _request(data: dict[str, Any]) -> CampaignRequest | None:
    if "recipientId" not in data:
        return None
    return CampaignRequest(data["campaignId"], data["recipientId"], data.get("step", 0))
