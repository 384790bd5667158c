"""Looks at one transport: connects, greets, logs in, and quits; or asks the API. Sends nothing."""

from __future__ import annotations

from campaign_worker.check.finding import Finding, broken, doubtful, fine, refused
from campaign_worker.errors import SettingsError, SmtpPhase, TransportDown
from campaign_worker.mail import resend_url
from campaign_worker.mail.outgoing import OutgoingOptions, build_transport
from campaign_worker.mail.resend import ResendReport
from campaign_worker.settings import SecretUrl, Settings, transport_variable
from shutdown import Deadline

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


async def check_transport(
    name: str, url: SecretUrl, settings: Settings, bound_seconds: float
) -> list[Finding]:
    """Probe one transport within the bound. Raises nothing of the transport's."""
    item = f"transport {name}"
    options = OutgoingOptions(1, bound_seconds, settings.ehlo_name)
    try:
        transport = build_transport(name, url.get_secret_value(), transport_variable(name), options)
        try:
            report = await transport.probe()
        finally:
            await transport.close(Deadline.after(1))
    except TransportDown as error:
        return [_down(item, url, error, on_railway=settings.on_railway)]
    except SettingsError as error:
        return [broken(error.setting, error.problem, error.mend)]
    ready = f"{url} is ready for mail"
    if isinstance(report, ResendReport) and report.restricted:
        # Which is all that a worker needs; the API tells such a key nothing about domains.
        ready += " (its key may only send)"
    return [fine(item, ready), *_doubts(item, url, encrypted=report.tls)]


def _down(item: str, url: SecretUrl, error: TransportDown, *, on_railway: bool) -> Finding:
    text = f"{url}: {error.phase.value}: {error.problem}"
    api = resend_url.is_resend(url.get_secret_value())
    match error.phase:
        case SmtpPhase.AUTH if api:
            return refused(item, text, "set a key that Resend's dashboard shows as active")
        case _ if api:
            return broken(item, text, f"write it as {resend_url.EXAMPLE}")
        case SmtpPhase.AUTH:
            return refused(item, text, "set the user and password that this server wants")
        case SmtpPhase.STARTTLS:
            return broken(item, text, "smtps:// for port 465, smtp+starttls:// for port 587")
        case SmtpPhase.CONNECT if on_railway:
            mend = (
                "Railway lets SMTP out on the Pro plan only: deploy again after an upgrade, or "
                f"send through Resend's API ({resend_url.EXAMPLE})"
            )
            return broken(item, text, mend)
        case _:
            return broken(item, text, "correct host, port and scheme, or ask the server's operator")


def _doubts(item: str, url: SecretUrl, *, encrypted: bool) -> list[Finding]:
    shown = str(url)
    if encrypted or "@" not in shown or any(host in shown for host in _LOCAL):
        return []
    if resend_url.is_resend(url.get_secret_value()):
        return [doubtful(item, "the API key would travel unencrypted", "use resend+https://")]
    text = "user and password would travel unencrypted"
    return [doubtful(item, text, "use smtp+starttls:// or smtps://")]
