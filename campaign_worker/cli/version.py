"""`campaign-worker version`."""

from __future__ import annotations

import platform
from importlib import metadata

from campaign_worker import __version__
from campaign_worker.cli.console import stdout

NAME = "version"


def command() -> None:
    """Print the versions that matter in a report of a fault."""
    bullmq = metadata.version("bullmq")
    python = platform.python_version()
    stdout().print(f"campaign-worker {__version__} (bullmq {bullmq}, Python {python})")
