"""Exceptions by which a processor steers its job, as in BullMQ; told by class name, not identity.

`bullmq`'s own classes, subclasses and look-alikes of the same name work too (Node: `err.name`).
"""

from __future__ import annotations

#: By which Node knows the error, whatever its class.
RATE_LIMIT_MESSAGE = "bullmq:rateLimitExceeded"


class UnrecoverableError(Exception):
    """Fail the job now, whatever attempts are left."""


class DelayedError(Exception):
    """The processor has called `job.move_to_delayed`; the worker leaves the job alone."""


class WaitingError(Exception):
    """The processor has called `job.move_to_wait`; the worker leaves the job alone."""


class WaitingChildrenError(Exception):
    """The processor has moved its job to waiting-children; the worker leaves the job alone."""


class RateLimitError(Exception):
    """The queue's rate limit was set by the processor; the job goes back, no attempt counted."""

    def __init__(self, message: str = RATE_LIMIT_MESSAGE) -> None:
        super().__init__(message)


MOVED = frozenset({"DelayedError", "WaitingError", "WaitingChildrenError"})
UNRECOVERABLE = "UnrecoverableError"
RATE_LIMIT = "RateLimitError"


def is_named(error: BaseException, *names: str) -> bool:
    """Tell whether `error` is of a class, or below a class, of one of these names."""
    return any(cls.__name__ in names for cls in type(error).__mro__)
