"""Which state the worker is in, and which may follow which. Decides nothing, stops nothing."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from metrics import WorkerStateChanged

if TYPE_CHECKING:
    from metrics import Listener


class WorkerState(enum.Enum):
    """The life of a worker process; values are the words of /health and of the metric."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


# A start can be cut short by a signal; nothing ever goes back.
_NEXT: Final = {
    WorkerState.STARTING: {WorkerState.READY, WorkerState.DRAINING, WorkerState.STOPPED},
    WorkerState.READY: {WorkerState.DRAINING, WorkerState.STOPPED},
    WorkerState.DRAINING: {WorkerState.STOPPED},
    WorkerState.STOPPED: set[WorkerState](),
}


class Lifecycle:
    """The worker's state; each change is told to `listener`."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._state = WorkerState.STARTING
        self._consumed = False
        listener.on_event(WorkerStateChanged(self._state.value))

    @property
    def state(self) -> WorkerState:
        """The state now."""
        return self._state

    @property
    def consumed(self) -> bool:
        """Whether this process has ever been ready, and so may keep its place while draining."""
        return self._consumed

    def to(self, state: WorkerState) -> None:
        """Enter a state; entering the present one is no change. ValueError for a way back."""
        if state is self._state:
            return
        if state not in _NEXT[self._state]:
            raise ValueError(f"a worker that is {self._state.value} cannot become {state.value}")
        self._state = state
        self._consumed = self._consumed or state is WorkerState.READY
        self._listener.on_event(WorkerStateChanged(state.value))
