"""The ways out, by the scheme of their URL: SMTP servers, and Resend's HTTP API. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from campaign_worker.mail import resend_url, smtp_url
from campaign_worker.mail.resend import ResendTransport
from campaign_worker.mail.smtp import SmtpTransport
from metrics import Listener

AnyTransport: TypeAlias = SmtpTransport | ResendTransport


@dataclass(frozen=True, slots=True)
class OutgoingOptions:
    """What all transports of a process share; some of it only SMTP reads."""

    max_connections: int
    send_timeout_seconds: float
    ehlo_name: str
    reply_timeout_seconds: float = 600.0
    idle_timeout_seconds: float = 15.0
    messages_per_connection: int = 100
    listener: Listener | None = None


def build_transport(name: str, url: str, setting: str, options: OutgoingOptions) -> AnyTransport:
    """Build the transport of a URL. Raises errors.SettingsError naming `setting`."""
    if resend_url.is_resend(url):
        return ResendTransport(
            resend_url.parse(url, setting),
            name=name,
            max_connections=options.max_connections,
            send_timeout_seconds=options.send_timeout_seconds,
            idle_timeout_seconds=options.idle_timeout_seconds,
        )
    return SmtpTransport(
        smtp_url.parse(url, setting),
        name=name,
        max_connections=options.max_connections,
        ehlo_name=options.ehlo_name,
        send_timeout_seconds=options.send_timeout_seconds,
        reply_timeout_seconds=options.reply_timeout_seconds,
        idle_timeout_seconds=options.idle_timeout_seconds,
        messages_per_connection=options.messages_per_connection,
        listener=options.listener,
    )
