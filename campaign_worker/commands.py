"""What operators do to a running system: pause and resume campaigns, restore lost jobs.

Workers may run meanwhile; each step is one that they may do at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from campaign_worker.delivery.restoring import Restoring
from campaign_worker.delivery.waking import PAGE, at_pace
from campaign_worker.operations import (
    NoSuchCampaign,
    Progress,
    campaign_number,
    connected,
    recovery_options,
    refuse_an_app_s_campaign,
)
from campaign_worker.settings import Settings
from campaign_worker.storage.campaigns import Campaigns
from campaign_worker.storage.recovery import PostgresRecovery

_WOKEN_BY_US_SECONDS = 10.0
"""Much longer than a page takes: when a command breaks off, the reconciler goes on after that."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many scheduled rows were looked at, and how many of them lacked a live job."""

    looked: int
    revived: int


async def recover(settings: Settings, progress: Callable[[Recovered], None]) -> Recovered:
    """Give every scheduled row a live job. `progress` is called with what is done so far.

    Takes the reconciler's lease from whoever has it. Raises Away, CredentialsRefused, and
    ReconcilerTaken when another recovery is started meanwhile.
    """
    looked = revived = 0
    async with connected(settings) as stores:
        recovery = PostgresRecovery(stores.database, recovery_options(settings))
        restoring = Restoring(recovery, stores.scheduler)
        await recovery.take(by_force=True)
        try:
            more, forced = True, True
            while more:
                step = await restoring.step(forced=forced)
                looked, revived = looked + step.looked, revived + step.revived
                more, forced = step.more, False
                progress(Recovered(looked, revived))
        finally:
            await recovery.release()
    return Recovered(looked, revived)


async def pause(settings: Settings, campaign_id: str) -> None:
    """Let no further mail of a campaign begin. Raises NoSuchCampaign, PayloadError, Away."""
    refuse_an_app_s_campaign(settings)
    number = campaign_number(campaign_id)
    async with connected(settings) as stores:
        await _bring(stores.campaigns, number, before="running", after="paused")


async def resume(settings: Settings, campaign_id: str, progress: Progress) -> int:
    """Let a paused campaign run, and its due mails now; how many jobs were woken or revived.

    `progress(done, total)` counts due rows. Raises NoSuchCampaign, PayloadError, Away.
    """
    refuse_an_app_s_campaign(settings)
    number = campaign_number(campaign_id)
    async with connected(settings) as stores:
        campaigns = stores.campaigns
        await _bring(campaigns, number, before="paused", after="running")
        total, done, woken = await campaigns.pending_count(number), 0, 0
        sweep = stores.scheduler.sweep()
        await campaigns.being_woken(number, _WOKEN_BY_US_SECONDS)
        while (called := await at_pace(stores.scheduler.call_back(number, PAGE))) is not None:
            woken += called
            await campaigns.being_woken(number, _WOKEN_BY_US_SECONDS)
        async for page in campaigns.due_pages(number):
            woken += await at_pace(sweep.wake(page)) or 0
            await campaigns.being_woken(number, _WOKEN_BY_US_SECONDS)
            done += len(page)
            progress(done, max(total, done))
        # A worker may have put jobs off meanwhile, because of the pause: one more look is due.
        await campaigns.being_woken(number, 0.0)
        return woken


async def _bring(campaigns: Campaigns, number: int, *, before: str, after: str) -> None:
    if await campaigns.change_status(number, before=before, after=after):
        return
    status = await campaigns.status(number)
    if status is None:
        raise NoSuchCampaign(f"there is no campaign {number}")
    if status != after:
        raise NoSuchCampaign(f"campaign {number} is {status}, not {before}")
