"""Addresses: found behind a proxy, in one form, grouped for limits, kept as a hash of the day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.tracking.clients import (
    DAY_SECONDS,
    ClientHashes,
    client_address,
    limited_as,
)


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9 ", "203.0.113.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", None, "10.0.0.1"),
        ("2001:DB8::0:1", None, "2001:db8::1"),
        ("fe80::1%eth0", None, "fe80::1"),
        (None, None, None),
        ("", "\0", None),
    ],
)
def test_the_address_is_the_last_that_our_own_proxy_names(
    peer: str | None, said: str | None, expected: str | None
) -> None:
    headers = {} if said is None else {"x-real-ip": said}
    assert client_address(peer, headers, "x-real-ip") == expected


def test_a_header_that_nobody_trusts_is_not_read() -> None:
    assert client_address("10.0.0.1", {"x-real-ip": "203.0.113.9"}, None) == "10.0.0.1"


@given(st.text(max_size=80))
def test_no_header_is_a_fault(said: str) -> None:
    found = client_address("10.0.0.1", {"x-real-ip": said}, "x-real-ip")
    assert found is not None
    assert limited_as(found)


def test_one_host_of_ipv6_has_a_whole_network_and_one_limit() -> None:
    assert limited_as("2001:db8:1:2::1") == limited_as("2001:db8:1:2:ffff::9")
    assert limited_as("2001:db8:1:2::1") != limited_as("2001:db8:1:3::1")


def test_a_hash_is_of_its_day_and_its_process() -> None:
    now = [DAY_SECONDS * 100.0]
    one, other = (ClientHashes(enabled=True, now_seconds=lambda: now[0]) for _ in range(2))
    first = one.of("10.0.0.1")
    assert first == one.of("10.0.0.1") != one.of("10.0.0.2")
    assert first != other.of("10.0.0.1")
    now[0] += DAY_SECONDS
    assert one.of("10.0.0.1") != first
    assert one.of(None) is None


def test_nothing_is_kept_when_nothing_shall_be_kept() -> None:
    assert ClientHashes(enabled=False).of("10.0.0.1") is None
