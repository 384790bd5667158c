"""The text behind /metrics. Owns format and content type; serves nothing."""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""The oldest text format: every Prometheus and every agent since 2014 reads it."""


def process_registry() -> CollectorRegistry:
    """Return a registry with memory, descriptors, garbage collection and version of this process.

    Each call gives a new one, so that tests and workers never share numbers.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Exposition:
    """Renders one registry."""

    content_type: Final = CONTENT_TYPE

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def text(self) -> bytes:
        """Return what all metrics say now, in `content_type`."""
        return generate_latest(self._registry)
