"""What a processor may look like, and how it is called. Runs nothing by itself."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campaign_worker.queue.abort import AbortSignal
    from campaign_worker.queue.job import Job

Processor = Callable[..., Awaitable[Any]]

#: A processor of three positional arguments (job, token, signal) wants the signal.
_WITH_SIGNAL = 3


def adapt(processor: Processor | None) -> Callable[[Job, str, AbortSignal], Awaitable[Any]]:
    """Call the processor with as many arguments as it takes; only a third one gets the signal."""
    if processor is None:
        return _undefined
    if _takes_signal(processor):
        return processor
    return lambda job, token, _signal: processor(job, token)


def _takes_signal(processor: Processor) -> bool:
    try:
        parameters = inspect.signature(processor).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(parameter.kind in positional for parameter in parameters) >= _WITH_SIGNAL


async def _undefined(*_arguments: object) -> None:
    raise RuntimeError("No process function is defined.")
