"""Which of Redis' errors say that it is away, takes no writes, or is not the one to ask.

Judges errors only. What to do about them is the caller's part.
"""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# LOADING is a connection error to redis-py.
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
# A replica's answers, and those of a cluster's node that does not hold the queue, or not now.
_ELSEWHERE = (ReadOnlyError, AskError, TryAgainError, ClusterDownError)
_NO_WRITES = (OutOfMemoryError, ReadOnlyError, ClusterDownError, TryAgainError)
# redis-py has no types for some. Redis 6.2 writes around an error that a script met:
# "Error running script (call to f_...): @user_script:14: @user_script: 14: -OOM command ...".
_CODES = re.compile(
    r"(?:\A|: -)(?:MISCONF|NOREPLICAS|BUSY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|OOM|READONLY) "
)


def is_away(error: BaseException) -> bool:
    """Tell whether Redis is out of reach, or takes no writes now: other calls would fail too."""
    return isinstance(error, _AWAY) or takes_no_writes(error)


def is_elsewhere(error: BaseException) -> bool:
    """Tell whether a server says that it is not, or no longer, the one to ask.

    A demoted primary keeps its connections: only a new one finds the server that took its place.
    """
    return isinstance(error, _ELSEWHERE) or "-READONLY " in str(error)


def takes_no_writes(error: BaseException) -> bool:
    """Tell whether Redis refused because of its own state: full, a replica, disk, busy, loading.

    A script that was refused so has written nothing: Redis refuses its first write or none.
    """
    return isinstance(error, _NO_WRITES) or _CODES.search(str(error)) is not None
