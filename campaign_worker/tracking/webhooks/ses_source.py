"""SES' webhooks: SNS messages of the topics that are allowed, proved, and their subscriptions.

https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.prepare.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import structlog

from campaign_worker.errors import HttpRefused, WebhookForged
from campaign_worker.tracking.webhooks import fields, ses
from campaign_worker.tracking.webhooks.certificates import Certificates
from campaign_worker.tracking.webhooks.feedback import Feedback, Headers, Ignored
from campaign_worker.tracking.webhooks.fetch import Fetcher
from campaign_worker.tracking.webhooks.sns import (
    SnsMessage,
    SnsType,
    check_subscribe_url,
    read_message,
)

log = structlog.get_logger(__name__)


class SesSource:
    """Fulfils feedback.Source.

    An age is no reason to refuse: SNS repeats a message as it was, for hours, and its id makes a
    repetition harmless.
    """

    def __init__(
        self, topics: Sequence[str], fetcher: Fetcher, certificates: Certificates | None = None
    ) -> None:
        self._topics = frozenset(topics)
        self._fetcher = fetcher
        self._certificates = certificates or Certificates(fetcher)

    async def read(self, _headers: Headers, body: bytes) -> Sequence[Feedback]:
        """Authenticate and read one message; a subscription is confirmed before the answer."""
        message = read_message(body)
        # Before anybody is asked anything: a stranger does not know the topic.
        if message.topic not in self._topics:
            raise WebhookForged("its topic is not one of ours")
        await self._certificates.verify(message)
        match message.type:
            case SnsType.NOTIFICATION:
                return (_read_notification(message),)
            case SnsType.SUBSCRIPTION:
                await self._confirm(message)
                return (Ignored(message.type.value),)
            case SnsType.UNSUBSCRIPTION:
                log.warning("the topic sends no more reports", topic=message.topic)
                return (Ignored(message.type.value),)
            case _:
                assert_never(message.type)

    async def _confirm(self, message: SnsMessage) -> None:
        url = check_subscribe_url(message)
        try:
            await self._fetcher.fetch(url)
        except HttpRefused as error:
            # A token that is over three days old; whoever subscribes again gets a new one.
            log.warning(
                "the subscription was not confirmed", topic=message.topic, status=error.status
            )
        else:
            log.info("the subscription is confirmed", topic=message.topic)


def _read_notification(message: SnsMessage) -> Feedback:
    # What SES sends first to try a topic is no JSON.
    if not message.text.lstrip().startswith("{"):
        return Ignored("text")
    return ses.parse(message.id, fields.read_object(message.text))
