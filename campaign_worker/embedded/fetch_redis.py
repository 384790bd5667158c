"""`python -m campaign_worker.embedded.fetch_redis`: puts a redis-server into this environment.

Does nothing where one is found already. Exit code 1 with one sentence when there is no way.
"""

from __future__ import annotations

import sys

from campaign_worker.embedded.redis_binary import fetch_redis
from campaign_worker.errors import EmbeddedServerError


def main() -> int:
    """Say where the server is, or what to install."""
    try:
        path = fetch_redis()
    except EmbeddedServerError as error:
        sys.stderr.write(f"{error.problem}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
