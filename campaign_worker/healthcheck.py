"""`python -m campaign_worker.healthcheck`: asks /health of the worker in the same container.

Exit code 0 while it consumes or drains, 1 otherwise. Knows only PORT, so that it is quick.
"""

from __future__ import annotations

import http.client
import os
import sys

DEFAULT_PORT = 8080
TIMEOUT_SECONDS = 4.0


def healthy(port: int) -> bool:
    """Return whether /health on this machine answers 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if healthy(int(os.environ.get("PORT") or DEFAULT_PORT)) else 1)
