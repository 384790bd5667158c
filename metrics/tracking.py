"""Opens, clicks and unsubscribes as metrics. Owns their names, units and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from metrics import events as e
from metrics.families import counter, histogram
from metrics.labels import BoundedLabel

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# A request waits some milliseconds for its commit, 40 ms for Postgres at most, 100 ms for all.
TRACKING_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 0.5, 1)


class TrackingMetrics:
    """Counts events of tracking."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._label = BoundedLabel()
        self._requests = counter(
            registry,
            "tracking_requests",
            "Opens, clicks and unsubscribes, and where they were when they were answered.",
            "kind",
            "class",
            "result",
        )
        self._seconds = histogram(
            registry,
            "tracking_answer_seconds",
            "From the first request of a batch to its answers.",
            TRACKING_BUCKETS,
            "result",
        )
        self._refused = counter(
            registry, "tracking_refused", "Requests that were not recorded.", "kind", "reason"
        )
        self._dropped = counter(
            registry, "tracking_dropped", "Events that nothing could secure.", "stream"
        )
        self._drained = counter(
            registry, "tracking_drained", "Events of a stream given to Postgres.", "stream"
        )

    def on_event(self, event: e.TrackingMetric) -> None:
        """Count one event."""
        label = self._label
        match event:
            case e.TrackingAnswered(result, seconds, counts):
                for (kind, visitor), count in counts.items():
                    self._requests.labels(label(kind), label(visitor), label(result)).inc(count)
                self._seconds.labels(label(result)).observe(seconds)
            case e.TrackingRefused(kind, reason):
                self._refused.labels(label(kind), label(reason)).inc()
            case e.TrackingDropped(stream, count):
                self._dropped.labels(label(stream)).inc(count)
            case e.TrackingDrained(stream, count):
                self._drained.labels(label(stream)).inc(count)
            case _:
                assert_never(event)
