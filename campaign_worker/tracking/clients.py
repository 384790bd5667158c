"""Who asks, as far as an address tells: found behind a proxy, grouped for limits, kept as a hash.

The salt is random, lives in the memory of one process and goes at the end of each UTC day: nobody
who holds the table and every secret gets an address back out of it.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

DAY_SECONDS: Final = 86_400
_ADDRESSES_KEPT: Final = 4096


class ClientHashes:
    """Hashes addresses with the salt of the day; `enabled` False: keeps nothing of them."""

    def __init__(self, *, enabled: bool, now_seconds: Callable[[], float] = time.time) -> None:
        self._enabled = enabled
        self._now_seconds = now_seconds
        self._day = -1
        self._salt = b""

    def of(self, address: str | None) -> bytes | None:
        """Give 16 bytes that are the same for the same address on the same day."""
        if not self._enabled or address is None:
            return None
        day = int(self._now_seconds() / DAY_SECONDS)
        if day != self._day:
            self._day, self._salt = day, os.urandom(32)
        return hashlib.blake2b(address.encode(), key=self._salt, digest_size=16).digest()


def client_address(
    peer: str | None, headers: Mapping[str, str], trusted_header: str | None
) -> str | None:
    """Give the address of whoever asked; `trusted_header` is one that our own proxy writes.

    Of a list the last entry is taken: those before it came from outside.
    """
    if trusted_header is not None:
        said = headers.get(trusted_header)
        if said:
            address = _address(said.rpartition(",")[2].strip()[:64])
            if address is not None:
                return address
    return None if peer is None else _address(peer)


@functools.lru_cache(maxsize=_ADDRESSES_KEPT)
def _address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@functools.lru_cache(maxsize=_ADDRESSES_KEPT)
def limited_as(address: str) -> str:
    """Give what a limit counts by: an IPv4 address, or the /64 that one host of IPv6 has."""
    if ":" not in address:
        return address
    network = ipaddress.ip_network((address, 64), strict=False)
    return str(network.network_address)
