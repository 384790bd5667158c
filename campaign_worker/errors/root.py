"""The root of the error tree."""

from __future__ import annotations


class CampaignWorkerError(Exception):
    """Base of the tree; nobody raises it itself."""
