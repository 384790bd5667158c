"""Which of Redis' errors say that it is away, or there and takes no writes: waiting mends those.

Judges errors only. What to do about them is the caller's part.
"""

from __future__ import annotations

import re

from redis.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# LOADING is a connection error to redis-py.
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
_NO_WRITES = (OutOfMemoryError, ReadOnlyError, ClusterDownError, TryAgainError)
# redis-py has no types for some. Redis 6.2 writes around an error that a script met:
# "Error running script (call to f_...): @user_script:14: @user_script: 14: -OOM command ...".
_CODES = re.compile(
    r"(?:\A|: -)(?:MISCONF|NOREPLICAS|BUSY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|OOM|READONLY) "
)


def is_away(error: BaseException) -> bool:
    """Tell whether Redis is out of reach, or takes no writes now: other calls would fail too."""
    return isinstance(error, _AWAY) or takes_no_writes(error)


def takes_no_writes(error: BaseException) -> bool:
    """Tell whether Redis refused because of its own state: full, a replica, disk, busy, loading.

    A script that was refused so has written nothing: Redis refuses its first write or none.
    """
    return isinstance(error, _NO_WRITES) or _CODES.search(str(error)) is not None
