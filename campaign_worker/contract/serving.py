"""Settings and contract together: the contract's queues stand in for QUEUES."""

from __future__ import annotations

from campaign_worker.contract import reading
from campaign_worker.contract.model import Contract
from campaign_worker.contract.reading import Source
from campaign_worker.settings import QueueLimit, QueueSpec, Settings


def served(settings: Settings) -> tuple[Settings, Source | None]:
    """Read the contract that the settings name, if they do. Raises ContractError."""
    if settings.contract is None:
        return settings, None
    source = reading.load(settings.contract)
    queues = _queues(source.contract, settings.concurrency)
    changed: dict[str, object] = {"queues": queues}
    if "smtp_max_connections" not in settings.model_fields_set:
        changed["smtp_max_connections"] = sum(queue.concurrency for queue in queues)
    return settings.model_copy(update=changed), source


def _queues(contract: Contract, concurrency: int) -> tuple[QueueSpec, ...]:
    return tuple(
        QueueSpec(
            name,
            queue.concurrency or concurrency,
            None
            if queue.limiter is None
            else QueueLimit(queue.limiter.max, queue.limiter.duration_ms),
        )
        for name, queue in contract.queues.items()
    )
