"""What stands between a mail and its server: texts, addresses, SMTP, HTTP."""

from __future__ import annotations

import enum

from campaign_worker.errors.away import Away
from campaign_worker.errors.root import CampaignWorkerError


class RenderError(CampaignWorkerError):
    """A template cannot be rendered: `part` is subject, html or text, `problem` names why."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"{part}: {problem}")
        self.part = part
        self.problem = problem


class AddressError(CampaignWorkerError):
    """An address that no envelope or header may carry; the text never holds the address itself."""


class SmtpPhase(enum.Enum):
    """Where in the SMTP dialogue something happened (RFC 5321, section 3)."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"


class TransportDown(Away):
    """A server cannot be used by anybody now: unreachable, or it refuses us as a client."""

    def __init__(
        self, transport: str, phase: SmtpPhase, problem: str, code: int | None = None
    ) -> None:
        super().__init__(f"transport {transport}: {phase.value}: {problem}")
        self.transport = transport
        self.phase = phase
        self.problem = problem
        self.code = code


class TooManyBounces(TransportDown):
    """Over 10 % of the last recipients bounced hard; the transport rests for `seconds` more."""

    def __init__(self, transport: str, seconds: float) -> None:
        problem = f"over 10 % hard bounces, rests {seconds:.0f} s"
        super().__init__(transport, SmtpPhase.RCPT, problem)
        self.seconds = seconds


class SmtpRefused(CampaignWorkerError):
    """The server answered with a refusal.

    `code` is the basic code (RFC 5321), `enhanced` the enhanced one (RFC 3463) as "5.1.1" or None,
    `text` the cleaned reply. A refusal in phase BODY is an answer to the final dot.
    """

    def __init__(self, phase: SmtpPhase, code: int, enhanced: str | None, text: str) -> None:
        super().__init__(f"{phase.value}: {code} {text}")
        self.phase = phase
        self.code = code
        self.enhanced = enhanced
        self.text = text


class SmtpLost(CampaignWorkerError):
    """No answer came. In phase BODY the outcome is unknown; before it nothing was sent."""

    def __init__(self, phase: SmtpPhase, text: str) -> None:
        super().__init__(f"{phase.value}: {text}")
        self.phase = phase
        self.text = text


class HttpRefused(CampaignWorkerError):
    """A provider's API answered with an error.

    `status` is HTTP's, `name` the provider's word for it or "", `text` its cleaned message,
    `retry_after_seconds` its wish (RFC 9110, 10.2.3) or None.
    """

    def __init__(
        self, status: int, name: str, text: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{status} {name}: {text}" if name else f"{status} {text}")
        self.status = status
        self.name = name
        self.text = text
        self.retry_after_seconds = retry_after_seconds


class HttpLost(CampaignWorkerError):
    """A request was written, or begun to be, and nobody said what became of it."""
