"""Makes the families of metrics, all under one prefix. Counts nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX: Final = "campaign_worker_"


def counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    """Make a counter; `_total` is added to its name."""
    return Counter(PREFIX + name, text, labels, registry=registry)


def gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    """Make a gauge."""
    return Gauge(PREFIX + name, text, labels, registry=registry)


def histogram(
    registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    """Make a histogram with these upper bounds."""
    return Histogram(PREFIX + name, text, labels, registry=registry, buckets=buckets)
