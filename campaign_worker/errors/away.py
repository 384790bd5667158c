"""Something of ours is out of reach: waiting may mend it, and no attempt is spent on it."""

from __future__ import annotations

from campaign_worker.errors.root import CampaignWorkerError


class Away(CampaignWorkerError):
    """Something of ours is out of reach: intake stops, jobs go back, no attempt is spent."""


class RedisAway(Away):
    """Redis did not answer within the bound; `cause` is the driver's error."""


class DatabaseAway(Away):
    """Postgres cannot take statements now: refused, restarting, read-only, out of connections."""


class ContractBroken(DatabaseAway):
    """A statement of contract.toml does not fit the app's tables any more, or may not be run.

    `statement` is its place in the file, as `load.recipients`. Waiting mends it when somebody mends
    the table or the file.
    """

    def __init__(self, statement: str, problem: str) -> None:
        super().__init__(f"contract: {statement}: {problem}")
        self.statement = statement
        self.problem = problem


class ProviderAway(Away):
    """A mail provider's server that has to confirm a webhook did not answer, or not in time."""
