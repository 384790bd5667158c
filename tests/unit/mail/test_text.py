"""Text from HTML: what a reader keeps, what is dropped, and that no input hurts."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign_worker.mail.text import from_html


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", ""),
        ("plain words", "plain words"),
        ("a\n  b\t c&nbsp;d", "a b c d"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("one<br>two<br/><br />three", "one\ntwo\n\nthree"),
        ("<h1>Title</h1>text", "Title\n\ntext"),
        ("<b>bo</b>ld and <i>it</i>alic", "bold and italic"),
        ("a <b> b </b> c", "a b c"),
        ("1 &lt; 2 &amp; 3 &euro; &#8364; &#x20AC;", "1 < 2 & 3 € € €"),
        ("1 < 2 <3", "1 < 2 <3"),
        ("x<hr>y", "x\n\n--------------------\n\ny"),
        ("<ul><li>a<li>b</ul>end", "  - a\n  - b\n\nend"),
        ("<ol start=9><li>a</li><li>b</li></ol>", "  9. a\n  10. b"),
        ("<ul><li>a<ol><li>b</li></ol></li><li>c</li></ul>", "  - a\n    1. b\n  - c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>c", "> a\n>\n> b\n\nc"),
        ("<table><tr><th>A</th><th>B</th></tr><tr><td>1<td>2</table>", "A  B\n1  2"),
        ("<pre>a\n  b\n\nc</pre>", "a\n  b\n\nc"),
        ("a<!-- no -->b<!doctype html><?php no ?>c", "abc"),
        ("<!--[if mso]><p>no</p><![endif]-->yes", "yes"),
        ("<![if !mso]>yes<![endif]>", "yes"),
        ("<head><title>no</title></head>yes", "yes"),
        ("<style>p{}</style><SCRIPT>if (a</b) no</SCRIPT >yes", "yes"),
        ("yes<script>no", "yes"),
        ("<textarea><b>no</textarea>yes", "yes"),
        ("<xmp><b>&amp;</xmp> x", "<b>&amp; x"),
        ("<plaintext><b></plaintext>", "<b></plaintext>"),
        ("<!-->yes", "yes"),
        ('<p title="a""><b title="no">yes', "yes"),
        ("<div style='display: NONE'><div>no</div>no</div>yes", "yes"),
        ('<span style="max-height:0px;">no</span>yes', "yes"),
        ('<p style="max-height:0.5em">yes</p>', "yes"),
        ("<p hidden>no</p>yes", "yes"),
        ("ze\u200bro\u00ad", "zero"),
        ("nul\x00l \x1b[31mred", "null [31mred"),
        ("👩\u200d💻", "👩\u200d💻"),
        ('<img src=x alt="A cat">', "A cat"),
    ],
)
def test_html_becomes_readable_text(source: str, expected: str) -> None:
    assert from_html(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            '<a href="https://x.example/a?b=1&amp;c=2">here</a>.',
            "here (https://x.example/a?b=1&c=2).",
        ),
        ("<a href=https://x.example/>here</a> now", "here (https://x.example/) now"),
        ('<a href="https://x.example/">https://x.example</a>', "https://x.example"),
        ('<a href="https://x.example/">x.example</a>', "x.example"),
        ('<a href="mailto:a@b.example">a@b.example</a>', "a@b.example"),
        ('<a href="mailto:a@b.example">Write</a>', "Write (a@b.example)"),
        ('<a href="https://x.example"><img alt="Shop" src=y></a>', "Shop (https://x.example)"),
        ('<a href="https://x.example"><img src=y></a>', "https://x.example"),
        ('<a href="#top">top</a>', "top"),
        ('<a href="javascript:alert(1)">click</a>', "click"),
        ('<a href=" java\nscript:alert(1)">click</a>', "click"),
        ("<a name=x>anchor</a>", "anchor"),
        (
            "<a href=https://a.example>a<a href=https://b.example>b",
            "a (https://a.example)b (https://b.example)",
        ),
        ('<ul><li><a href="https://x.example/">x.example</a></ul>', "  - x.example"),
        ('<a title="a>b" href="https://x.example">t</a>', "t (https://x.example)"),
        ('<a href="https://x.example?a&copy=1&amp;b">t</a>', "t (https://x.example?a&copy=1&b)"),
    ],
)
def test_links_keep_their_address(source: str, expected: str) -> None:
    assert from_html(source) == expected


def test_unbalanced_quotes_lose_no_later_text() -> None:
    assert from_html('<p class="x>first</p><p>second</p>') == "first\n\nsecond"


def test_a_number_too_long_for_python_is_left_as_it_is() -> None:
    assert from_html("&#" + "9" * 5000 + ";").startswith("&#999")


_pieces = st.sampled_from([
    "<", ">", "&", '"', "'", "=", "/", "<a", "<a>", "</a>", "<p>", "<ul>", "<li>", "</ul>", "<td>",
    "<blockquote>", "</blockquote>", "<!--", "-->", "<![", "<!", "<pre>", "\n", " ", "x", "&#",
    "&amp;", "<div hidden>", "</div>", "<script>", "</script>",
])  # fmt: skip


@given(st.lists(st.one_of(_pieces, st.text(max_size=3)), max_size=60).map("".join))
@example("</blockquote></ul></pre></a>")
@example("<ul><blockquote></ul></blockquote></ul><li>x")
def test_no_input_raises_and_no_control_character_comes_through(source: str) -> None:
    text = from_html(source)
    assert not any(ord(character) < 32 and character != "\n" for character in text)
    assert "\n\n\n\n" not in text


_UNITS = [
    "<", "<a ", '<a x="', '<a "b>"', "<a '>", "<!", "<!--", "<![", "</", "</a ", "<?", "&", "&#",
    "&amp", "9", "<script>", "<script></", "<a/", "<ul><li>x", "<blockquote>x", "<td>x", " ",
    "<br>",
    "<div style='display:none'>", "<pre>\n", "<a =", "<ul></blockquote>", "<a href=x" + " " * 20,
]  # fmt: skip


@pytest.mark.parametrize("unit", _UNITS)
def test_a_megabyte_of_anything_is_read_long_before_the_tests_time_is_over(unit: str) -> None:
    # What takes quadratic time takes hours for this, and the time-out of every test ends it.
    assert isinstance(from_html(unit * (1_000_000 // len(unit))), str)
