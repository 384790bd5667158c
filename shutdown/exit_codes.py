"""What the process says about itself when it ends. Owns the numbers, never ends the process."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of the worker. 70 to 78 keep to the meaning of sysexits(3) where it has one."""

    OK = 0
    """Nothing was lost: every job is finished or handed back."""

    FORCED = 1
    """Forced: by a third signal, or by the second watchdog layer (faulthandler knows only 1)."""

    INTERNAL_ERROR = 70
    """A fault of the program itself, or it hung (EX_SOFTWARE)."""

    WATCHDOG = 75
    """The deadline passed and something still ran, or could not be written; starting it again is
    right (EX_TEMPFAIL)."""

    CREDENTIALS_REFUSED = 77
    """A server answered and said no to our user, password or database (EX_NOPERM)."""

    SETTINGS = 78
    """A setting is missing or wrong; starting again cannot mend it (EX_CONFIG)."""
