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
        await transport.probe()
    except TransportDown as error:
        return [_down(item, url, error, on_railway=settings.on_railway)]
    except SettingsError as error:
        return [broken(item, error.problem, error.mend)]
    return [fine(item, f"{url} is ready for mail"), *_doubts(item, url, settings)]


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


def _doubts(item: str, url: SecretUrl, settings: Settings) -> list[Finding]:
    found = []
    shown = str(url)
    if shown.startswith("smtp://") and "@" in shown and not any(host in shown for host in _LOCAL):
        text = "smtp:// does not insist on encryption, and there is a password"
        found.append(doubtful(item, text, "use smtp+starttls:// or smtps://"))
    if "." not in settings.ehlo_name and not settings.ehlo_name.startswith("["):
        text = f"EHLO_NAME is {settings.ehlo_name}: some servers refuse a name without a dot"
        found.append(doubtful(item, text, "set EHLO_NAME to a host name of your domain"))
    return found
