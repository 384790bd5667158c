"""Tokens say what was signed, and nothing that was not signed is ever read."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.errors import InvalidToken
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import (
    MAX_DESTINATION,
    MAX_ID,
    Keyring,
    Token,
    TokenKind,
    may_be_signed,
)
from campaign_worker.tracking.urls import TrackingUrls

OLD = SigningKey("2025", "o" * 32)
NEW = SigningKey("2026", "n" * 32)
RING = Keyring([NEW])

_ids = st.integers(1, MAX_ID)
_printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
_destinations = _printable.map(lambda rest: f"https://{rest}")
_tokens = st.one_of(
    st.builds(Token, st.sampled_from([TokenKind.OPEN, TokenKind.UNSUBSCRIBE]), _ids),
    st.builds(Token, st.just(TokenKind.CLICK), _ids, link_id=_ids),
    st.builds(Token, st.just(TokenKind.CLICK), _ids, destination=_destinations),
)


def _bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@given(_tokens)
def test_what_was_signed_is_read(token: Token) -> None:
    text = RING.sign(token)
    assert RING.read(token.kind, text) == token
    assert RING.sign(token) == text


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("ARWKBzMSoyt_FFj3Sc2RtQ", Token(TokenKind.OPEN, 7)),
        ("BhWKwI23AcC4AtpQsOG_Y8gsIgyV7Q", Token(TokenKind.CLICK, 3_000_000, link_id=40_000)),
        (
            "ChWKB2h0dHBzOi8vZXhhbXBsZS5vcmcv7gODTnb54SwJF5x6",
            Token(TokenKind.CLICK, 7, destination="https://example.org/"),
        ),
        ("AxWK__________9_e1995pT-r_1E_hIm", Token(TokenKind.UNSUBSCRIBE, MAX_ID)),
    ],
)
def test_links_of_mails_that_are_out_are_read_by_every_version(text: str, token: Token) -> None:
    assert RING.read(token.kind, text) == token
    assert RING.sign(token) == text


@given(_tokens, st.data())
def test_a_flipped_bit_is_refused(token: Token, data: st.DataObject) -> None:
    signed = bytearray(_bytes_of(RING.sign(token)))
    bit = data.draw(st.integers(0, len(signed) * 8 - 1))
    signed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidToken):
        RING.read(token.kind, _text_of(bytes(signed)))


@given(_tokens, st.data())
def test_another_spelling_of_a_token_is_refused(token: Token, data: st.DataObject) -> None:
    text = RING.sign(token)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda char: char != text[place]))
    for spelling in (text[:place] + other + text[place + 1 :], text[:place], text + other):
        with pytest.raises(InvalidToken):
            RING.read(token.kind, spelling)


@given(st.text(), st.sampled_from(TokenKind))
def test_any_text_is_refused_as_an_invalid_token(text: str, kind: TokenKind) -> None:
    with pytest.raises(InvalidToken):
        RING.read(kind, text)


@given(st.binary(max_size=400), st.sampled_from(TokenKind))
def test_any_bytes_are_refused_as_an_invalid_token(data: bytes, kind: TokenKind) -> None:
    with pytest.raises(InvalidToken):
        RING.read(kind, _text_of(data))


@given(st.binary(max_size=60), st.sampled_from(TokenKind))
def test_what_a_later_version_signs_with_our_key_is_read_or_refused(
    rest: bytes, kind: TokenKind
) -> None:
    from campaign_worker.tracking import tokens  # noqa: PLC0415 - its insides, for this test alone

    tag, secret = RING._keys[0]
    body = rest[:1] + tag + rest[1:] if rest else b"\x00" + tag
    text = _text_of(body + tokens._mac(secret, body))
    try:
        read = RING.read(kind, text)
    except InvalidToken:
        return
    assert RING.read(kind, RING.sign(read)) == read


@pytest.mark.parametrize("text", ["a" * 10_000, "", "A" * 22, "é" * 30, "\ud800" * 30, "a\n" * 15])
def test_texts_of_any_size_and_character_are_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        RING.read(TokenKind.OPEN, text)


def test_a_token_is_good_for_one_kind_only() -> None:
    text = RING.sign(Token(TokenKind.OPEN, 7))
    for kind in (TokenKind.CLICK, TokenKind.UNSUBSCRIBE):
        with pytest.raises(InvalidToken):
            RING.read(kind, text)


def test_a_new_key_signs_and_an_old_one_is_still_read() -> None:
    sent_before = Keyring([OLD]).sign(Token(TokenKind.OPEN, 7))
    both = Keyring([NEW, OLD])
    assert both.read(TokenKind.OPEN, sent_before) == Token(TokenKind.OPEN, 7)
    sent_now = both.sign(Token(TokenKind.OPEN, 7))
    assert Keyring([NEW]).read(TokenKind.OPEN, sent_now) == Token(TokenKind.OPEN, 7)
    with pytest.raises(InvalidToken):
        Keyring([NEW]).read(TokenKind.OPEN, sent_before)


def test_a_foreign_key_of_the_same_id_is_refused() -> None:
    foreign = Keyring([SigningKey(NEW.id, "f" * 32)]).sign(Token(TokenKind.OPEN, 7))
    with pytest.raises(InvalidToken):
        RING.read(TokenKind.OPEN, foreign)


def test_an_ordinary_token_is_short() -> None:
    token = Token(TokenKind.CLICK, 3_000_000, link_id=40_000)
    assert len(RING.sign(token)) <= 30


def test_the_longest_token_fits_and_is_read() -> None:
    longest = "https://" + "x" * (MAX_DESTINATION - len("https://"))
    token = Token(TokenKind.CLICK, MAX_ID, destination=longest)
    assert RING.read(TokenKind.CLICK, RING.sign(token)) == token
    assert not may_be_signed(longest + "x")


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "//a.example", "ftp://a.example", "https://", "https://a\r\nb: c",
     "https://a b", "https://ü.example", "HTTPS://a.example", "data:text/html,x", ""],
)  # fmt: skip
def test_other_destinations_are_not_signed(url: str) -> None:
    with pytest.raises(ValueError, match="destination"):
        Token(TokenKind.CLICK, 1, destination=url)


def test_a_token_has_ids_and_the_target_of_its_kind() -> None:
    for make in (
        lambda: Token(TokenKind.OPEN, 0),
        lambda: Token(TokenKind.OPEN, MAX_ID + 1),
        lambda: Token(TokenKind.CLICK, 1),
        lambda: Token(TokenKind.CLICK, 1, link_id=0),
        lambda: Token(TokenKind.CLICK, 1, link_id=1, destination="https://a"),
        lambda: Token(TokenKind.OPEN, 1, link_id=1),
        lambda: Token(TokenKind.UNSUBSCRIBE, 1, destination="https://a"),
    ):
        with pytest.raises(ValueError, match=r"bigint|target"):
            make()


def test_a_keyring_without_keys_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="no key"):
        Keyring([])


def test_urls_carry_the_token_of_their_kind() -> None:
    urls = TrackingUrls("https://t.example.org/x", RING)
    base, letter, name = urls.open(7).rsplit("/", 2)
    assert (base, letter) == ("https://t.example.org/x", "o")
    assert RING.read(TokenKind.OPEN, name.removesuffix(".gif")) == Token(TokenKind.OPEN, 7)
    clicked = RING.read(TokenKind.CLICK, urls.click(7, link_id=3).rsplit("/", 1)[1])
    assert clicked == Token(TokenKind.CLICK, 7, link_id=3)
    token = RING.read(TokenKind.UNSUBSCRIBE, urls.unsubscribe(7).rsplit("/", 1)[1])
    assert token == Token(TokenKind.UNSUBSCRIBE, 7)
    assert urls.is_ours(urls.open(7))
    assert not urls.is_ours("https://t.example.org.evil.example/o/x")
