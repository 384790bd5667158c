"""Something of ours is out of reach: waiting may mend it, and no attempt is spent on it."""

from __future__ import annotations

from campaign_worker.errors.root import CampaignWorkerError


class Away(CampaignWorkerError):
    """Something of ours is out of reach: intake stops, jobs go back, no attempt is spent."""


class RedisAway(Away):
    """Redis did not answer within the bound; `cause` is the driver's error."""


class DatabaseAway(Away):
    """Postgres cannot take statements now: refused, restarting, read-only, out of connections."""


class ProviderAway(Away):
    """A mail provider's server that has to confirm a webhook did not answer, or not in time."""
