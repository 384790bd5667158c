"""Replies: cleaned whatever the server sent, codes found where servers put them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Refusal
from campaign_worker.mail.reply import clean, enhanced_code, mildest


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("5.1.1 no such user", "5.1.1"),
        ("#5.1.0 Address rejected", "5.1.0"),
        ("sorry, no mailbox here (#5.1.1 - chkuser)", "5.1.1"),
        ("4.7.26 unauthenticated", "4.7.26"),
        ("no such user 5.1.1", None),
        ("5.1.1.1 is no code", None),
        ("5.1234.1 is no code", None),
        ("3.1.1 is no class", None),
        ("", None),
    ],
)
def test_the_enhanced_code_is_found(text: str, code: str | None) -> None:
    assert enhanced_code(text) == code


@given(st.text(st.characters(), max_size=3000))
def test_a_clean_reply_is_one_short_line_that_utf8_can_hold(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 500
    assert cleaned.encode().decode() == cleaned
    assert not set(cleaned) & set("\0\r\n\x1b\u2028\u202e")


def test_undecodable_bytes_are_shown_as_such() -> None:
    assert clean(b"no \xff way".decode("utf-8", "surrogateescape")) == "no \ufffd way"


@pytest.mark.parametrize(
    ("codes", "chosen"),
    [([550, 450], 450), ([550, 554], 554), ([550, 421], 421), ([550, 551], 550)],
)
def test_nobody_is_given_up_while_one_refusal_is_milder(codes: list[int], chosen: int) -> None:
    assert mildest([Refusal("r@b.example", code, None, "") for code in codes]).code == chosen
