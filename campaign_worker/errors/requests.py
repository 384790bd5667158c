"""What is wrong with a request from outside."""

from __future__ import annotations

from campaign_worker.errors.root import CampaignWorkerError


class InvalidToken(CampaignWorkerError):
    """A tracking token that we have not signed for this; the text says why, and never holds it."""


class WebhookForged(CampaignWorkerError):
    """Somebody else's webhook, or one that was changed or repeated later; never quotes it."""


class WebhookMalformed(CampaignWorkerError):
    """A webhook that says nothing which its provider documents; never quotes it."""
