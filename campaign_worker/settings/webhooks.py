"""The settings of what mail providers report: one secret, or list of topics, for each of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from campaign_worker.settings import parse
from campaign_worker.settings.base import Base, reads
from campaign_worker.settings.kinds import About, Secret


class WebhookSettings(Base):
    """Bounces and complaints that arrive after the send, at POST /webhooks/{provider}."""

    resend_webhook_secret: Annotated[
        tuple[Secret, ...],
        BeforeValidator(reads(parse.svix_secrets)),
        About(default="none: /webhooks/resend is not there", check="whsec_..., comma separated"),
    ] = Field(
        default=(),
        description="Signing secrets of Resend's webhooks to /webhooks/resend, one for each "
        "endpoint or, while one is exchanged, for the old and the new.",
    )
    ses_webhook_topics: Annotated[
        tuple[str, ...],
        BeforeValidator(reads(parse.topic_arns)),
        About(
            default="none: /webhooks/ses is not there",
            check="ARNs of SNS topics, comma separated",
            example="arn:aws:sns:eu-west-1:123456789012:ses-feedback",
        ),
    ] = Field(
        default=(),
        description="The SNS topics that SES reports to; their subscriptions to /webhooks/ses are "
        "confirmed, and messages of any other topic refused. Raw message delivery must be off.",
    )
    postmark_webhook_secret: Annotated[
        Secret | None,
        BeforeValidator(reads(parse.shared_secret)),
        About(default="none: /webhooks/postmark is not there", check="16 characters or more"),
    ] = Field(
        default=None,
        description="Postmark signs nothing: this is the password in the URL that it is given, "
        "https://postmark:SECRET@host/webhooks/postmark, or the value of a header "
        "X-Webhook-Secret.",
    )
