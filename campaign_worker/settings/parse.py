"""Checks of single values that are not URLs: queues, keys, names, addresses. They raise Wrong."""

from __future__ import annotations

import base64
import binascii
import re
import socket
from email.utils import parseaddr

from campaign_worker.settings.kinds import QueueSpec, Secret, SigningKey, Wrong

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_LITERAL = re.compile(r"\[[0-9A-Fa-f:.]+\]|\[IPv6:[0-9A-Fa-f:.]+\]")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_KEY_LENGTH_MIN = 32
_CONCURRENCY_MAX = 10_000
_SVIX = "whsec_"
_SVIX_BYTES_MIN = 16
_TOPIC = re.compile(r"arn:aws(?:-[a-z]{2,10})*:sns:[a-z0-9-]{3,30}:[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_SHARED_LENGTH_MIN = 16


def schema_name(text: str) -> str:
    """Return an identifier that needs no quotes; no other text is put into statements."""
    if not _IDENTIFIER.fullmatch(text):
        problem = "must be lower-case letters, digits and _, at most 63, not beginning with a digit"
        raise Wrong(problem, "for example campaign_worker")
    if text in {"public", "information_schema"} or text.startswith("pg_"):
        raise Wrong(
            "must be a schema of its own, not one that others use", "for example campaign_worker"
        )
    return text


def queues(text: str, concurrency: int) -> tuple[QueueSpec, ...]:
    """Read `name` or `name:number`, comma separated; `concurrency` serves where none is given."""
    specs: list[QueueSpec] = []
    for item in (part.strip() for part in text.split(",")):
        name, colon, number = (piece.strip() for piece in item.partition(":"))
        if not name or (colon and not number.isascii()) or any(char.isspace() for char in name):
            raise Wrong(
                "has an entry without a usable name", "write it as campaign or campaign:20,news:5"
            )
        if colon and not (number.isdigit() and 0 < int(number) <= _CONCURRENCY_MAX):
            problem = (
                f"gives queue {name} a concurrency that is no number from 1 to {_CONCURRENCY_MAX}"
            )
            raise Wrong(problem, "write it as name:20; a queue name cannot contain a colon")
        specs.append(QueueSpec(name, int(number) if colon else concurrency))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise Wrong("names a queue twice", "name each queue once")
    return tuple(specs)


def header_name(text: str | None) -> str | None:
    """Check the name of a header (RFC 9110, 5.1)."""
    if text is not None and not _HEADER_NAME.fullmatch(text):
        raise Wrong("is not the name of a header", "for example X-Real-IP")
    return text


def signing_keys(text: str) -> tuple[SigningKey, ...]:
    """Read `id:secret`, comma separated, newest first; no error repeats a secret."""
    keys: list[SigningKey] = []
    for place, item in enumerate(text.split(","), start=1):
        key_id, colon, secret = item.strip().partition(":")
        if not colon or not _KEY_ID.fullmatch(key_id):
            raise Wrong(
                f"key {place} is not id:secret", "ids are letters, digits, - and _, at most 32"
            )
        if len(secret) < _KEY_LENGTH_MIN:
            problem = f"key {key_id} has a secret shorter than {_KEY_LENGTH_MIN} characters"
            raise Wrong(problem, "make one with: openssl rand -hex 32")
        keys.append(SigningKey(key_id, secret))
    if len({key.id for key in keys}) != len(keys):
        raise Wrong("names a key id twice", "give a new key a new id")
    return tuple(keys)


def svix_secrets(text: str) -> tuple[Secret, ...]:
    """Read `whsec_...`, comma separated (https://docs.svix.com/receiving/verifying-payloads)."""
    secrets: list[Secret] = []
    for place, item in enumerate(text.split(","), start=1):
        head, prefix, encoded = item.strip().partition(_SVIX)
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if head or not prefix or len(key) < _SVIX_BYTES_MIN:
            problem = f"secret {place} is not one that Resend shows beside a webhook"
            raise Wrong(problem, "it begins with whsec_ and goes on in base64")
        secrets.append(Secret(item.strip()))
    return tuple(secrets)


def topic_arns(text: str) -> tuple[str, ...]:
    """Read ARNs of SNS topics, comma separated."""
    topics = tuple(item.strip() for item in text.split(","))
    for place, topic in enumerate(topics, start=1):
        if not _TOPIC.fullmatch(topic):
            problem = f"topic {place} is not the ARN of an SNS topic"
            raise Wrong(problem, "write it as arn:aws:sns:eu-west-1:123456789012:name")
    return topics


def shared_secret(text: str) -> Secret:
    """Check a secret that somebody else is given; visible ASCII, so that a header can carry it."""
    if len(text) < _SHARED_LENGTH_MIN or not text.isascii() or not text.isprintable():
        problem = f"is shorter than {_SHARED_LENGTH_MIN} characters, or not plain ASCII"
        raise Wrong(problem, "make one with: openssl rand -hex 32")
    return Secret(text)


def mail_from(text: str) -> str:
    """Check `Name <address>` or an address roughly; mail/address has the last word."""
    if any(ord(char) < ord(" ") or ord(char) == 127 for char in text):  # noqa: PLR2004 -- DEL
        raise Wrong("contains a line break or a control character", "write it on one line")
    _, address = parseaddr(text)
    local, at, domain = address.rpartition("@")
    if not (local and at and "." in domain.strip(".")) or " " in address:
        raise Wrong("is not a sender", "write it as Name <mail@example.org> or mail@example.org")
    return text.strip()


def ehlo_name(text: str) -> str:
    """Check a host name or an address literal, as RFC 5321 (4.1.1.1) wants after EHLO."""
    if not (_HOST.fullmatch(text) or _LITERAL.fullmatch(text)):
        raise Wrong("is neither a host name nor an address literal", "for example mail.example.org")
    return text


def bullmq_prefix(text: str) -> str:
    """Check the first part of BullMQ's keys."""
    if any(ord(char) <= ord(" ") for char in text):
        raise Wrong("contains a space or a control character", "BullMQ's own default is bull")
    return text


def own_host() -> str:
    """Return this machine's name in a form that EHLO may carry."""
    name = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip("-.")
    return name or "localhost"
