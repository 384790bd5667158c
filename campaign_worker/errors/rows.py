"""What Postgres says about rows."""

from __future__ import annotations

from campaign_worker.errors.root import CampaignWorkerError


class RowRefused(CampaignWorkerError):
    """Postgres refuses a value of one row; `cause` is the driver's text. The others are fine."""


class ReconcilerTaken(CampaignWorkerError):
    """Another process reconciles; its lease is over in `seconds_left` unless it renews it."""

    def __init__(self, seconds_left: float) -> None:
        super().__init__(f"another process reconciles, for {seconds_left:.1f} s more at least")
        self.seconds_left = seconds_left
