"""A job's options: long names as apps write them, short ones as BullMQ stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: JavaScript's greatest whole number: beyond it nobody who reads a job counts exactly.
GREATEST = 2**53 - 1

#: Short option names of the hash and their long ones (BullMQ, job.ts: optsDecodeMap).
LONG_NAMES = {
    "fpof": "failParentOnFailure",
    "cpof": "continueParentOnFailure",
    "idof": "ignoreDependencyOnFailure",
    "rdof": "removeDependencyOnFailure",
    "kl": "keepLogs",
    "de": "deduplication",
}
SHORT_NAMES = {long: short for short, long in LONG_NAMES.items()}
#: What `telemetry` holds, and where each part is stored.
_TELEMETRY = {"tm": "metadata", "omc": "omitContext"}
#: Stored names that are not those of apps.
STORED = LONG_NAMES.keys() | _TELEMETRY.keys()


def bounded(number: float) -> float:
    """Bring a number that somebody wrote into a job to what scripts can be given; NaN is much."""
    return max(-GREATEST, min(GREATEST, number))


def from_stored(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under their long names (Job.optsFromJSON)."""
    opts: dict[str, Any] = {}
    for name, value in stored.items():
        if name in _TELEMETRY:
            opts.setdefault("telemetry", {})[_TELEMETRY[name]] = value
        else:
            opts[LONG_NAMES.get(name, name)] = value
    return opts


def to_stored(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under their short names, without those that are None (optsAsJSON)."""
    stored = {SHORT_NAMES.get(name, name): value for name, value in opts.items()}
    telemetry = stored.pop("telemetry", None)
    if isinstance(telemetry, Mapping):
        stored |= {short: telemetry.get(name) or None for short, name in _TELEMETRY.items()}
    return {name: value for name, value in stored.items() if value is not None}
