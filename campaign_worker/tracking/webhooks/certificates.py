"""Proves SNS messages by the certificates that SNS signs with, which are fetched once and kept.

The URL was checked (sns.py) and is asked over verified TLS: that is what makes a certificate SNS'.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509.oid import NameOID

from campaign_worker.errors import HttpRefused, ProviderAway, WebhookForged
from campaign_worker.tracking.webhooks.fetch import Fetcher
from campaign_worker.tracking.webhooks.sns import SignatureVersion, SnsMessage

KEPT_SECONDS: Final = 86_400.0
REFUSED_SECONDS: Final = 60.0
_KEPT: Final = 32
_LEAST_KEY_BITS: Final = 2048
_NO_CERTIFICATE: Final = frozenset({200, 404, 410})
"""Statuses of a page that is not there, or is too long for a certificate."""

# sns.amazonaws.com, and in some regions sns-signing.eu-south-1.amazonaws.com and the like.
_SUBJECT = re.compile(r"sns[a-z0-9.-]{0,60}\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True)
class _Known:
    """What a URL gave: a key and until when it may be used, or none; `until` is monotonic."""

    key: RSAPublicKey | None
    valid_from: datetime
    valid_until: datetime
    until: float


class Certificates:
    """Verifies messages. `now` gives the time of the day, `clock` monotonic seconds."""

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher = fetcher
        self._now = now
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._refused: OrderedDict[str, _Known] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def verify(self, message: SnsMessage) -> None:
        """Prove a message. Raises errors.WebhookForged, errors.ProviderAway."""
        known = await self._get(message.certificate_url)
        if known.key is None or not known.valid_from <= self._now() <= known.valid_until:
            raise WebhookForged("its certificate is none of SNS', or not valid now")
        try:
            known.key.verify(
                message.signature, message.signed, PKCS1v15(), _hash_of(message.version)
            )
        except InvalidSignature:
            raise WebhookForged("its signature is not by its certificate") from None

    async def _get(self, url: str) -> _Known:
        known = self._kept(url)
        if known is not None:
            return known
        # Forged messages that name certificates which do not exist cost one request at a time.
        async with self._one_at_a_time:
            known = self._kept(url)
            if known is None:
                known = await self._fetch(url)
                self._keep(url, known)
            return known

    def _keep(self, url: str, known: _Known) -> None:
        # Apart, so that no number of wrong names can push out the right one.
        kept = self._refused if known.key is None else self._known
        kept[url] = known
        kept.move_to_end(url)
        if len(kept) > _KEPT:
            kept.popitem(last=False)

    def _kept(self, url: str) -> _Known | None:
        now = self._clock()
        found = (self._known.get(url), self._refused.get(url))
        return next((known for known in found if known is not None and now < known.until), None)

    async def _fetch(self, url: str) -> _Known:
        try:
            pem = await self._fetcher.fetch(url)
            certificate = x509.load_pem_x509_certificate(pem)
            key = certificate.public_key()
            valid = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            usable = isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_KEY_BITS
            if usable and _is_of_sns(certificate) and isinstance(key, RSAPublicKey):
                return _Known(key, *valid, self._clock() + KEPT_SECONDS)
        except HttpRefused as error:
            # SNS does not repeat what gets 401: a firewall's word must not be taken for SNS'.
            if error.status not in _NO_CERTIFICATE:
                raise ProviderAway(f"its certificate: {error.status}") from error
        except (ValueError, UnsupportedAlgorithm):
            pass
        never = datetime.min.replace(tzinfo=UTC)
        return _Known(None, never, never, self._clock() + REFUSED_SECONDS)


def _is_of_sns(certificate: x509.Certificate) -> bool:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return any(_SUBJECT.fullmatch(str(name.value)) for name in names)


def _hash_of(version: SignatureVersion) -> HashAlgorithm:
    match version:
        case SignatureVersion.SHA1:
            # SNS' default. What it proves comes over TLS besides; nobody signs chosen texts by it.
            return SHA1()  # noqa: S303 - see above
        case SignatureVersion.SHA256:
            return SHA256()
        case _:
            assert_never(version)
