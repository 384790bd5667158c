"""Who asks, as far as an address tells: found behind a proxy, grouped for limits, kept as a hash.

The salt is random, lives in the memory of one process and goes at the end of each UTC day: nobody
who holds the table and every secret gets an address back out of it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

DAY_SECONDS: Final = 86_400
_MAPPED_V4: Final = bytes(10) + b"\xff\xff"


class ClientHashes:
    """Hashes addresses with the salt of the day; `enabled` False: keeps nothing of them."""

    def __init__(self, *, enabled: bool, now_seconds: Callable[[], float] = time.time) -> None:
        self._enabled = enabled
        self._now_seconds = now_seconds
        self._day = -1
        self._salted = _salted()

    def of(self, address: str | None) -> bytes | None:
        """Give 16 bytes that are the same for the same address on the same day."""
        if not self._enabled or address is None:
            return None
        day = int(self._now_seconds() / DAY_SECONDS)
        if day != self._day:
            self._day, self._salted = day, _salted()
        hashed = self._salted.copy()
        hashed.update(address.encode())
        return hashed.digest()


def _salted() -> hashlib.blake2b:
    return hashlib.blake2b(key=os.urandom(32), digest_size=16)


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


def _address(text: str) -> str | None:
    """Give an address in its one usual form, IPv4 in IPv6 as IPv4; None for what is none."""
    try:
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return text
        packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    if packed.startswith(_MAPPED_V4):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def limited_as(address: str) -> str:
    """Give what a limit counts by: an IPv4 address, or the /64 that one host of IPv6 has."""
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address)[:8] + bytes(8)
    return socket.inet_ntop(socket.AF_INET6, packed)
