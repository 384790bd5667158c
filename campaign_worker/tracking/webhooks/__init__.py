"""What mail providers report after a send: authenticated, read, and handed to storage.

Nothing is changed by a webhook that does not prove whose it is. Knows no driver.
"""

from campaign_worker.tracking.webhooks.feedback import (
    Complaint,
    Feedback,
    FeedbackStore,
    HardBounce,
    Ignored,
    Provider,
    Recorded,
    Report,
    SoftBounce,
)
from campaign_worker.tracking.webhooks.routes import webhook_table

__all__ = [
    "Complaint",
    "Feedback",
    "FeedbackStore",
    "HardBounce",
    "Ignored",
    "Provider",
    "Recorded",
    "Report",
    "SoftBounce",
    "webhook_table",
]
