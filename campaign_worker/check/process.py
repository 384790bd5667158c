"""Looks at what the process needs of its platform: port, drain window, settings' doubts."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

from campaign_worker.check.finding import Finding, broken, doubtful, fine
from campaign_worker.errors import SettingsError
from campaign_worker.healthcheck import healthy
from campaign_worker.mail.compose import ComposerOptions, MailComposer

if TYPE_CHECKING:
    from campaign_worker.settings import Settings


async def check_port(port: int) -> list[Finding]:
    """Bind PORT for a moment; where it is taken, ask whether a worker of ours answers there."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))  # noqa: S104 -- as the worker does; closed at once
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await asyncio.to_thread(healthy, port):
            return [fine("PORT", f"a worker answers on {port}")]
        mend = "set PORT to a free port from 1024 to 65535"
        return [broken("PORT", f"{port}: {error.strerror or error}", mend)]
    return [fine("PORT", f"{port} is free")]


def check_drain(settings: Settings) -> list[Finding]:
    """Say how long a stop may take, and what is doubtful about it."""
    drain = settings.drain
    if drain.warnings:
        return [doubtful("drain", warning, "") for warning in drain.warnings]
    text = f"{drain.window_seconds:g} s, of which a stop uses {drain.stop_budget_seconds:g} s"
    return [fine("drain", text)]


def check_settings(settings: Settings) -> list[Finding]:
    """Return the doubts of the settings that are not about the drain window, and a bad sender."""
    others = settings.warnings[len(settings.drain.warnings) :]
    found = [doubtful("settings", warning, "") for warning in others]
    try:
        MailComposer(ComposerOptions(settings.mail_from))
    except SettingsError as error:
        found.append(broken(error.setting, error.problem, error.mend))
    if "." not in settings.ehlo_name and not settings.ehlo_name.startswith("["):
        text = f"{settings.ehlo_name}: some servers refuse a name without a dot"
        found.append(doubtful("EHLO_NAME", text, "set it to a host name of your domain"))
    return found
