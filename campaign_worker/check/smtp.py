"""Looks at one SMTP server: connects, greets, logs in, and quits. Sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign_worker.check.finding import Finding, broken, doubtful, fine, refused
from campaign_worker.errors import SettingsError, SmtpPhase, TransportDown
from campaign_worker.mail import smtp_url
from campaign_worker.mail.smtp import SmtpTransport

if TYPE_CHECKING:
    from campaign_worker.settings import SecretUrl, Settings

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


async def check_transport(
    name: str, url: SecretUrl, settings: Settings, bound_seconds: float
) -> list[Finding]:
    """Probe one transport within the bound. Raises nothing of the transport's."""
    item = f"transport {name}"
    try:
        transport = SmtpTransport(
            smtp_url.parse(url.get_secret_value()),
            name=name,
            max_connections=1,
            ehlo_name=settings.ehlo_name,
            send_timeout_seconds=bound_seconds,
        )
        report = await transport.probe()
    except TransportDown as error:
        return [_down(item, url, error, on_railway=settings.on_railway)]
    except SettingsError as error:
        return [broken(item, error.problem, error.mend)]
    return [fine(item, f"{url} is ready for mail"), *_doubts(item, url, encrypted=report.tls)]


def _down(item: str, url: SecretUrl, error: TransportDown, *, on_railway: bool) -> Finding:
    text = f"{url}: {error.phase.value}: {error.problem}"
    match error.phase:
        case SmtpPhase.AUTH:
            return refused(item, text, "set the user and password that this server wants")
        case SmtpPhase.STARTTLS:
            return broken(item, text, "smtps:// for port 465, smtp+starttls:// for port 587")
        case SmtpPhase.CONNECT if on_railway:
            mend = "Railway lets SMTP out on the Pro plan only; deploy again after an upgrade"
            return broken(item, text, mend)
        case _:
            return broken(item, text, "correct host, port and scheme, or ask the server's operator")


def _doubts(item: str, url: SecretUrl, *, encrypted: bool) -> list[Finding]:
    shown = str(url)
    if encrypted or "@" not in shown or any(host in shown for host in _LOCAL):
        return []
    text = "user and password would travel unencrypted"
    return [doubtful(item, text, "use smtp+starttls:// or smtps://")]
