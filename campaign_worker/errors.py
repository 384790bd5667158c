"""Every error of the product, in one tree. Decisions read types and attributes, never texts.

CampaignWorkerError
├── SettingsError            a setting is missing or wrong: names it and how to mend it
│   ├── InvalidSettings      all that is wrong with the settings, at once
│   └── UnsupportedOption    a BullMQ option that is not honoured yet
├── ScriptsChanged           a Lua script of the bullmq package is not the one we know
├── JobGone                  a job that is to be written to is no longer in Redis
├── JobNotHeld               a job's lock is gone, or somebody else's
├── JobRefused               a job cannot be moved or removed as asked: says why
├── NoNextIteration          a job scheduler's chain ends with a job: names both
├── PayloadError             a job's data does not fit: names the field
├── RenderError              a template cannot be rendered for this recipient: names the variable
├── AddressError             an address that no envelope or header may carry
├── InvalidToken             a tracking token that we have not signed
├── WebhookForged            a webhook's signature, secret, time or topic is not its provider's
├── WebhookMalformed         a webhook says nothing that its provider documents
├── Away                     something of ours is out of reach; no attempt is spent on it
│   ├── RedisAway
│   ├── DatabaseAway
│   ├── ProviderAway         a mail provider's server does not say whether a webhook is its own
│   └── TransportDown        an SMTP server or an API cannot be reached, or refuses us
│       └── TooManyBounces   it calls too many recipients dead to be believed
├── SmtpRefused              the server answered with a refusal, in a known phase
├── SmtpLost                 no answer came, in a known phase
├── HttpRefused              a provider's API answered with an error
├── HttpLost                 no answer came to a request that was written
├── MailNotSent              why a mail's job failed: its failedReason
├── RowRefused               Postgres refuses a value of one row, and no other
├── ReconcilerTaken          another process reconciles now
├── MigrationError           the schema is not ours, or not what the code expects
├── CredentialsRefused       a server answered: wrong user, password or database
├── EmbeddedServerError      a server of the embedded stack did not start or stop as it should
│   └── BinaryMissing        its program is not installed: names the package to install
└── DemoFailed               a step of the demo did not come to its end: names the step
"""

from __future__ import annotations

import enum


class CampaignWorkerError(Exception):
    """Base of the tree; nobody raises it itself."""


class SettingsError(CampaignWorkerError):
    """A setting is missing or wrong.

    `setting` is the environment variable, `problem` what is wrong with it, `mend` what to do.
    """

    def __init__(self, setting: str, problem: str, mend: str = "") -> None:
        super().__init__(f"{setting}: {problem}" + (f" ({mend})" if mend else ""))
        self.setting = setting
        self.problem = problem
        self.mend = mend


class InvalidSettings(SettingsError):
    """Everything that is wrong with the settings; `problems` holds one SettingsError for each."""

    def __init__(self, problems: tuple[SettingsError, ...]) -> None:
        first = problems[0]
        super().__init__(first.setting, first.problem, first.mend)
        self.problems = problems

    def __str__(self) -> str:
        """One line for each problem."""
        return "\n".join(str(problem) for problem in self.problems)


class UnsupportedOption(SettingsError):
    """A BullMQ option that this worker does not honour; refused rather than ignored."""


class ScriptsChanged(CampaignWorkerError):
    """A Lua script of the installed bullmq package is missing or differs from the one we know."""

    def __init__(self, script: str, installed: str) -> None:
        super().__init__(f"bullmq script {script} is not the expected one (installed: {installed})")
        self.script = script
        self.installed = installed


class JobGone(CampaignWorkerError):
    """A job that is to be written to is no longer in Redis."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is no longer in Redis")
        self.job_id = job_id


class JobNotHeld(CampaignWorkerError):
    """A job's lock is gone, or somebody else's: its outcome is not ours to write."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lock of job {job_id} is no longer ours")
        self.job_id = job_id


class JobRefused(CampaignWorkerError):
    """A job cannot be moved, changed or removed as asked; `problem` says why."""

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(f"job {job_id}: {problem}")
        self.job_id = job_id
        self.problem = problem


class NoNextIteration(CampaignWorkerError):
    """No job follows `job_id` in its scheduler; `problem` says why."""

    def __init__(self, job_id: str, scheduler: str, problem: str) -> None:
        super().__init__(f"no next iteration of {scheduler!r} follows job {job_id}: {problem}")
        self.job_id = job_id
        self.scheduler = scheduler
        self.problem = problem


class PayloadError(CampaignWorkerError):
    """A job's data does not fit; `field` is the path of the first field at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class RenderError(CampaignWorkerError):
    """A template cannot be rendered: `part` is subject, html or text, `problem` names why."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"{part}: {problem}")
        self.part = part
        self.problem = problem


class AddressError(CampaignWorkerError):
    """An address that no envelope or header may carry; the text never holds the address itself."""


class InvalidToken(CampaignWorkerError):
    """A tracking token that we have not signed for this; the text says why, and never holds it."""


class WebhookForged(CampaignWorkerError):
    """Somebody else's webhook, or one that was changed or repeated later; never quotes it."""


class WebhookMalformed(CampaignWorkerError):
    """A webhook that says nothing which its provider documents; never quotes it."""


class Away(CampaignWorkerError):
    """Something of ours is out of reach: intake stops, jobs go back, no attempt is spent."""


class RedisAway(Away):
    """Redis did not answer within the bound; `cause` is the driver's error."""


class DatabaseAway(Away):
    """Postgres cannot take statements now: refused, restarting, read-only, out of connections."""


class ProviderAway(Away):
    """A mail provider's server that has to confirm a webhook did not answer, or not in time."""


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


class MailNotSent(CampaignWorkerError):
    """Why a mail's job failed, as its `failedReason` says it: the outcome, then the detail."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.detail = detail


class RowRefused(CampaignWorkerError):
    """Postgres refuses a value of one row; `cause` is the driver's text. The others are fine."""


class ReconcilerTaken(CampaignWorkerError):
    """Another process reconciles; its lease is over in `seconds_left` unless it renews it."""

    def __init__(self, seconds_left: float) -> None:
        super().__init__(f"another process reconciles, for {seconds_left:.1f} s more at least")
        self.seconds_left = seconds_left


class MigrationError(CampaignWorkerError):
    """The schema is not ours, or not what this version expects."""


class CredentialsRefused(CampaignWorkerError):
    """A server said no to our user, password or database: waiting cannot mend that."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class EmbeddedServerError(CampaignWorkerError):
    """A server of the embedded stack did not start or stop as it should.

    `server` is redis, postgres or smtp, `problem` what went wrong, with the end of its log.
    """

    def __init__(self, server: str, problem: str) -> None:
        super().__init__(f"{server}: {problem}")
        self.server = server
        self.problem = problem


class BinaryMissing(EmbeddedServerError):
    """The program of a server is not installed here; `problem` names the package to install."""


class DemoFailed(CampaignWorkerError):
    """A step of the demo did not come to its end.

    `step` is what was being done, `problem` why it ended, `log` the end of a worker's log, if that
    tells more.
    """

    def __init__(self, step: str, problem: str, log: str = "") -> None:
        super().__init__(f"{step}: {problem}")
        self.step = step
        self.problem = problem
        self.log = log
