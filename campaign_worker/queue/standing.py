"""Where a job stands, for those who only need to know whether it will run. Values only."""

from __future__ import annotations

import enum


class Standing(enum.Enum):
    """What a look at the queue found."""

    ABSENT = "absent"
    FINISHED = "finished"
    DELAYED = "delayed"
    UNDERWAY = "underway"
    """It waits, is active, or waits for its children."""

    UNLISTED = "unlisted"
    """Seen in no list: lost, unless it moved during the look. Only a script can tell."""
