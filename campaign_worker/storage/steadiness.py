"""Whether Postgres has answered for long enough to take rows from owners who could not renew.

Pure: the time is passed in, monotonic, in seconds. Knows no connection.
"""

from __future__ import annotations

import math

_BRIEF_SHARE = 1 / 3
"""Leases are renewed at a third of their length: a shorter outage costs nobody a lease."""

_MOST_LEASES = 5
"""An unsteady Postgres postpones for no longer than this many leases."""


class Steadiness:
    """Hears when Postgres fails and when it answers.

    After an outage nothing may be taken for one full lease. Outages shorter than a lease that come
    again and again postpone that together for five leases at the most; one that is as long as a
    lease is an outage of its own.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._away_since: float | None = None
        self._back_at = -math.inf
        self._first_back_at = -math.inf

    def failed(self, now: float) -> None:
        """Note that Postgres did not answer."""
        if self._away_since is None:
            self._away_since = now

    def answered(self, now: float) -> None:
        """Note that it answered."""
        if self._away_since is None:
            return
        began_at, self._away_since = self._away_since, None
        if now - began_at < self._lease_seconds * _BRIEF_SHARE:
            return
        apart = began_at - self._back_at >= self._lease_seconds
        if apart or now - began_at >= self._lease_seconds:
            self._first_back_at = now
        self._back_at = now

    def lasts(self, now: float) -> bool:
        """Whether rows may be taken."""
        if self._away_since is not None:
            return False
        long_enough = now - self._first_back_at >= self._lease_seconds * _MOST_LEASES
        return long_enough or now - self._back_at >= self._lease_seconds
