"""The settings of mail and tracking: transports, sender, pace, retries."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from campaign_worker.settings import parse, urls
from campaign_worker.settings.base import NAMED_TRANSPORTS, Base, reads, transport_name
from campaign_worker.settings.kinds import About, AmbiguousSend, SecretUrl, SigningKey, Wrong

DEFAULT_TRANSPORT = "default"
_SMTP = "smtp+starttls://user:password@host:587"


def transport_variable(name: str) -> str:
    """Return the variable that names a transport: SMTP_URL_BULK for bulk."""
    return "SMTP_URL" if name == DEFAULT_TRANSPORT else f"SMTP_URL_{name.upper()}"


class MailSettings(Base):
    """How mail leaves: SMTP servers or Resend's API, sender, pace, and what comes of failures."""

    smtp_url: Annotated[
        SecretUrl | None,
        BeforeValidator(reads(urls.transport_url)),
        About(
            default="required, or a named one",
            check="smtp://, smtps://, smtp+starttls:// or resend+https://",
            example=_SMTP,
        ),
    ] = Field(
        default=None,
        description="The transport named default: an SMTP server, or Resend's HTTP API as "
        "resend+https://:API_KEY@api.resend.com.",
    )
    named_smtp_urls: Annotated[
        Mapping[str, Annotated[SecretUrl, BeforeValidator(reads(urls.transport_url))]],
        About(default="none", check="as SMTP_URL", example=_SMTP),
    ] = Field(
        default_factory=dict,
        validation_alias=NAMED_TRANSPORTS,
        description="Further transports, chosen by campaign: SMTP_URL_BULK is named bulk.",
    )
    mail_from: Annotated[
        str,
        AfterValidator(parse.mail_from),
        About(check="Name <address> or an address", example="News <news@example.org>"),
    ] = Field(description="Sender of mails whose campaign and job name none.")
    ehlo_name: Annotated[
        str,
        AfterValidator(parse.ehlo_name),
        About(default="host name", check="a host name or [address]", example="mail.example.org"),
    ] = Field(
        default_factory=parse.own_host,
        description="What we call ourselves to SMTP servers; some refuse a name without a dot.",
    )
    smtp_max_connections: Annotated[
        int | None, About(unit="connections", default="sum over QUEUES", example="10")
    ] = Field(
        default=None,
        ge=1,
        le=1000,
        description="Most connections to each transport of one process; an API's requests at once.",
    )
    smtp_messages_per_connection: Annotated[int, About(unit="mails")] = Field(
        default=100, ge=1, description="Mails after which a connection is closed and opened anew."
    )
    smtp_idle_timeout_seconds: Annotated[float, About(unit="s")] = Field(
        default=15.0, gt=0, le=3600, description="How long an unused connection is kept."
    )
    transport_probe_seconds: Annotated[float, About(unit="s")] = Field(
        default=10.0,
        ge=0.1,
        le=3600,
        description="How often a server that cannot be reached, or refuses us, is tried again; its "
        "mails wait and spend no attempt.",
    )
    send_timeout_seconds: Annotated[float, About(unit="s")] = Field(
        default=60.0,
        gt=0,
        le=3600,
        validation_alias="SEND_TIMEOUT",
        description="How long one mail may take once it has a connection, without its body.",
    )
    send_reply_timeout_seconds: Annotated[float, About(unit="s")] = Field(
        default=600.0,
        gt=0,
        le=3600,
        description="How long a server may take for the body and the answer to its final dot "
        "(RFC 5321 wants 10 minutes): after it nobody knows what became of the mail. A stop "
        "waits no longer than its drain window.",
    )
    bounce_pause_seconds: Annotated[float, About(unit="s")] = Field(
        default=600.0,
        gt=0,
        le=86_400,
        description="How long a transport rests after more than 10 of its last 100 recipients "
        "bounced hard: a server that has us on a blocklist calls everybody dead. Those bounces "
        "suppress nobody. A restart ends the rest.",
    )
    send_rate_per_second: Annotated[
        float | None, About(unit="mails/s", default="unlimited", example="50")
    ] = Field(
        default=None,
        ge=0.001,
        le=100_000,
        description="Mails per second of all replicas together, through Redis.",
    )
    retry_4xx_floor_seconds: Annotated[float, About(unit="s")] = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Least delay after a temporary refusal: greylisting must not eat all attempts.",
    )
    ambiguous_send: AmbiguousSend = Field(
        default=AmbiguousSend.HOLD,
        description="A mail whose outcome SMTP cannot tell (lost between final dot and 250): "
        "hold never sends it again by itself, resend does, byte for byte the same.",
    )

    @field_validator("named_smtp_urls")
    @classmethod
    def _name_transports(
        cls, value: Mapping[str, SecretUrl], info: ValidationInfo
    ) -> Mapping[str, SecretUrl]:
        """Key the transports by name; at least one there must be, SMTP_URL counted."""
        named = {transport_name(variable): url for variable, url in value.items()}
        if DEFAULT_TRANSPORT in named:
            problem = "is not a usable name: the transport named default is SMTP_URL"
            raise Wrong(problem, "rename it or use SMTP_URL", "SMTP_URL_DEFAULT")
        if not named and "smtp_url" in info.data and info.data["smtp_url"] is None:
            raise Wrong("is missing", f"for example SMTP_URL={_SMTP}", "SMTP_URL")
        return MappingProxyType(named)

    @property
    def transports(self) -> Mapping[str, SecretUrl]:
        """Every transport by name; SMTP_URL is `default`."""
        default = {} if self.smtp_url is None else {DEFAULT_TRANSPORT: self.smtp_url}
        return MappingProxyType({**default, **self.named_smtp_urls})


class TrackingSettings(Base):
    """Opens, clicks and unsubscribes."""

    tracking_signing_keys: Annotated[
        tuple[SigningKey, ...],
        BeforeValidator(reads(parse.signing_keys)),
        About(default="none", check="id:secret, comma separated; secrets of 32 characters or more"),
    ] = Field(
        default=(),
        description="Keys of tracking links: the first signs, all are accepted. An old key stays "
        "here as long as links of its mails shall work.",
    )
    tracking_base_url: Annotated[
        str | None,
        BeforeValidator(reads(urls.http_base)),
        About(
            default="none",
            check="https:// or http://; needs TRACKING_SIGNING_KEYS",
            example="https://track.example.org",
        ),
    ] = Field(
        default=None,
        description="Public base of tracking links, which leads to PORT. Campaign mails then carry "
        "a pixel, links through it, unsubscribe_url and the headers of bulk mail; without it they "
        "are what their template says. One-click unsubscribe needs https.",
    )

    @field_validator("tracking_base_url")
    @classmethod
    def _sign_links(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("tracking_signing_keys") == ():
            problem = "is missing: TRACKING_BASE_URL is set, and links are never unsigned"
            mend = "set it to id:secret, the secret from: openssl rand -hex 32"
            raise Wrong(problem, mend, "TRACKING_SIGNING_KEYS")
        return value
