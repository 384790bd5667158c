"""Addresses: what is taken, what is refused, and that nothing dangerous comes through."""

from __future__ import annotations

import email
import email.policy
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign_worker.errors import AddressError
from campaign_worker.mail.address import Address, parse, parse_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.example", Address("", "a", "b.example")),
        (" <a@b.example> ", Address("", "a", "b.example")),
        ("Ann Lee <ann.lee@B.Example>", Address("Ann Lee", "ann.lee", "b.example")),
        ('"Lee, Ann" <a@b.example>', Address("Lee, Ann", "a", "b.example")),
        ('"She said \\"hi\\"" <a@b.example>', Address('She said "hi"', "a", "b.example")),
        ("John Q. Public <a@b.example>", Address("John Q. Public", "a", "b.example")),
        ("a@b.example <a@b.example>", Address("a@b.example", "a", "b.example")),
        ('"john doe"@b.example', Address("", "john doe", "b.example")),
        ('"odd@local"@b.example', Address("", "odd@local", "b.example")),
        ("jürgen@b.example", Address("", "jürgen", "b.example")),
        ("a@bücher.example", Address("", "a", "xn--bcher-kva.example")),
        ("a@例え.テスト", Address("", "a", "xn--r8jz45g.xn--zckzah")),
        ("a@faß.example", Address("", "a", "xn--fa-hia.example")),
        ("a@localhost", Address("", "a", "localhost")),
        ("a+tag/x=y@b.example", Address("", "a+tag/x=y", "b.example")),
        ("a@[192.0.2.1]", Address("", "a", "[192.0.2.1]")),
        ("a@[IPv6:2001:DB8::1]", Address("", "a", "[IPv6:2001:db8::1]")),
        ("Zoë 🎉 <z@b.example>", Address("Zoë 🎉", "z", "b.example")),
    ],
)
def test_an_address_is_read(text: str, expected: Address) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("plain", "'@' is missing"),
        ("@b.example", "before '@' is empty"),
        ('""@b.example', "before '@' is empty"),
        ("a@", "domain is empty"),
        ("a@b@c.example", "before '@' has a character"),
        ("a b@c.example", "before '@' has a character"),
        ("a\u3000b@c.example", "before '@' has a character"),
        (".a@c.example", "dot"),
        ("a..b@c.example", "dot"),
        ("a.@c.example", "dot"),
        ("a@-b.example", "label"),
        ("a@b..example", "label"),
        ("a@b.example.", "label"),
        ("a@b_c.example", "label"),
        ("a@b c.example", "label"),
        ("a@1.2.3.4", "number"),
        ("a@[1.2.3]", "literal"),
        ("a@[IPv6:x]", "literal"),
        ("a@[1.2.3.4", "literal"),
        ("a@\u0378.example", "internationalized"),
        ("a" * 65 + "@b.example", "64 octets"),
        ("ü" * 33 + "@b.example", "64 octets"),
        ("a@" + "b" * 64 + ".example", "label"),
        ("a@" + "b." * 128 + "example", "255 octets"),
        ("a" * 64 + "@" + "b." * 100 + "example", "254 octets"),
        ("x" * 501 + " <a@b.example>", "display name"),
        ('Ann "x" Lee <a@b.example>', "must be quoted"),
        ('"Ann" Lee <a@b.example>', "follows a closing quotation mark"),
        ('"Ann <a@b.example>', "not closed"),
        ("a@b.example>", "'>' stands without '<'"),
        ("<a@b.example", "before '@'"),
        ("a@b.example, c@d.example", "one address is expected, 2"),
        ("a@b.example\r\nBcc: x@y.example", "U+000D at position 12"),
        ("Ann\n <a@b.example>", "U+000A"),
        ("Ann\u2028 <a@b.example>", "U+2028"),
        ("a\x00@b.example", "U+0000"),
        ("a\x7f@b.example", "U+007F"),
        ("a\x85@b.example", "U+0085"),
        ("a\ud800@b.example", "U+D800"),
        ("<script@b.example", "before '@'"),
    ],
)
def test_a_bad_address_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason.replace("'", ".").replace("+", r"\+")):
        parse(text)


@pytest.mark.parametrize(
    "text", ["secret name@b.example", "secret@b..example", "secret@\u0378.example"]
)
def test_an_error_never_holds_the_address(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_list_is_read_in_order_and_commas_in_quotes_do_not_split() -> None:
    found = parse_list('"Lee, Ann" <a@b.example>, c@d.example,"e,f"@g.example')
    assert [item.envelope for item in found] == ["a@b.example", "c@d.example", '"e,f"@g.example']


def test_a_fault_in_a_list_names_its_position() -> None:
    with pytest.raises(AddressError, match=r"address 2 of 3: '@' is missing"):
        parse_list("a@b.example, nonsense, c@d.example")


def test_a_list_that_ends_in_a_comma_is_refused() -> None:
    with pytest.raises(AddressError, match="address 2 of 2: an address is empty"):
        parse_list("a@b.example,")


def test_an_endless_list_is_refused_before_it_is_read() -> None:
    with pytest.raises(AddressError, match="longer than"):
        parse_list("a@b.example," * 20_000)


def test_the_normalized_form_is_the_same_for_spellings_of_one_mailbox() -> None:
    spellings = ["Ann@Bücher.example", "x <ANN@xn--BCHER-kva.example>", '"ann"@BÜCHER.EXAMPLE']
    assert {parse(text).normalized for text in spellings} == {"ann@xn--bcher-kva.example"}
    assert parse("zoe\u0308@b.example").normalized == parse("ZO\u00cb@b.example").normalized


def test_only_a_non_ascii_local_part_needs_smtputf8() -> None:
    assert parse("jürgen@b.example").needs_smtputf8
    assert not parse("Jürgen <j@bücher.example>").needs_smtputf8


@given(st.text(max_size=60))
@example("a@b.example\r\nX: y")
@example('"\\')
@example('"a\\" <b@c>')
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        found = parse(text)
    except AddressError:
        return
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in found.envelope + found.header)
    assert "<" not in found.envelope.partition("@")[0] or found.envelope.startswith('"')
    assert found.domain_ascii.isascii()


_names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40).map(
    str.strip
)
_locals = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), max_codepoint=0x24F),
    min_size=1,
    max_size=15,
)


@given(_names, _locals, st.sampled_from(["b.example", "xn--bcher-kva.example", "[192.0.2.1]"]))
def test_the_header_form_reads_back_as_the_same_address(name: str, local: str, domain: str) -> None:
    address = Address(name, local, domain)
    assert parse(address.header) == address
    assert parse(address.envelope) == Address("", local, domain)
    assert parse_list(f"{address.header}, x@y.example")[0] == address


@given(_names.filter(str.isascii), st.from_regex(r"[a-z0-9.]{1,20}", fullmatch=True))
def test_the_standard_library_reads_the_header_form_alike(name: str, local: str) -> None:
    address = Address(name, local, "b.example")
    message = email.message_from_string(f"To: {address.header}\n\n", policy=email.policy.default)
    (found,) = message["To"].addresses
    assert (found.username, found.domain) == (local, "b.example")


@pytest.mark.parametrize("unit", ['"', "\\", "<", "a,", "a@b,", '"a\\"', "é", "<a@b>,"])
def test_reading_takes_time_linear_in_length(unit: str) -> None:
    try:
        found = parse_list((unit * 100_000)[:100_000])
    except AddressError:
        found = ()
    assert len(found) <= 100_000
