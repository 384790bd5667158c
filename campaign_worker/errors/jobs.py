"""What is wrong with a BullMQ job, or why it failed."""

from __future__ import annotations

from campaign_worker.errors.root import CampaignWorkerError


class JobGone(CampaignWorkerError):
    """A job that is to be written to is no longer in Redis."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is no longer in Redis")
        self.job_id = job_id


class JobNotHeld(CampaignWorkerError):
    """A job's lock is gone, or somebody else's: its outcome is not ours to write."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lock of job {job_id} is no longer ours")
        self.job_id = job_id


class JobRefused(CampaignWorkerError):
    """A job cannot be moved, changed or removed as asked; `problem` says why."""

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(f"job {job_id}: {problem}")
        self.job_id = job_id
        self.problem = problem


class JobTimedOut(CampaignWorkerError):
    """A job took longer than its worker allows (`jobTimeout`); an attempt is spent."""

    def __init__(self, job_id: str, limit_ms: int) -> None:
        super().__init__(f"job {job_id} took longer than {limit_ms} ms")
        self.job_id = job_id
        self.limit_ms = limit_ms


class NoNextIteration(CampaignWorkerError):
    """No job follows `job_id` in its scheduler; `problem` says why."""

    def __init__(self, job_id: str, scheduler: str, problem: str) -> None:
        super().__init__(f"no next iteration of {scheduler!r} follows job {job_id}: {problem}")
        self.job_id = job_id
        self.scheduler = scheduler
        self.problem = problem


class PayloadError(CampaignWorkerError):
    """A job's data does not fit; `field` is the path of the first field at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class MailNotSent(CampaignWorkerError):
    """Why a mail's job failed, as its `failedReason` says it: the outcome, then the detail."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.detail = detail
