"""Finds variables that are no setting but nearly are: a typo would else be silence.

Never reads a value, and never takes one name for another: it only says which may be meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

_ALIKE = 0.85
"""REDIS_URI and REDIS_URL are 0.89 alike, Heroku's WEB_CONCURRENCY and CONCURRENCY 0.846."""

_LENGTH_MIN = 5
_PLATFORM = "RAILWAY_"


def misnamed(given: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Return {setting that is not set: variable that may be meant for it}, in alphabetical order.

    A beginning is enough where it has two words: SEND_RATE for SEND_RATE_PER_SECOND.
    """
    unset = sorted(set(known) - set(given))
    found: dict[str, str] = {}
    for name in sorted(given):
        if name in known or len(name) < _LENGTH_MIN or name.startswith(_PLATFORM):
            continue
        upper = name.upper()
        begun = [each for each in unset if "_" in upper and each.startswith(f"{upper}_")]
        alike = begun or difflib.get_close_matches(upper, unset, n=1, cutoff=_ALIKE)
        if alike:
            found.setdefault(alike[0], name)
    return found
