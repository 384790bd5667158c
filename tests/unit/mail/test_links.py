"""Tracked templates: links lead through the tracker, and nothing else of a mail changes."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from urllib.parse import unquote

import jinja2
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Rendered, Template
from campaign_worker.errors import RenderError
from campaign_worker.mail.links import MAX_LINKS, find_in_html, find_in_text, with_stamps
from campaign_worker.mail.sandbox import HTML, TEXT
from campaign_worker.mail.template import compile_template
from campaign_worker.mail.template_links import Tracked, static_links
from campaign_worker.settings.kinds import SigningKey
from campaign_worker.tracking.tokens import Keyring, Token, TokenKind
from campaign_worker.tracking.urls import TrackingUrls

RING = Keyring([SigningKey("k1", "s" * 32)])
URLS = TrackingUrls("https://t.example", RING)
MESSAGE = 7
CLICKS = Tracked(opens=False, clicks=True, text=False)
OPENS = Tracked(opens=True, clicks=False, text=False)
ALL = Tracked(opens=True, clicks=True, text=True)
DATA = {"name": "Ann", "email": "a+b@c.example", "url": "https://d.example/?a=1&b=2", "yes": True}
_CLICK = re.compile(r"https://t\.example/c/([A-Za-z0-9_-]+)")


def rendered(
    html: str | None = None,
    tracked: Tracked = CLICKS,
    *,
    text: str | None = None,
    ids: tuple[int | None, ...] = (),
    **data: object,
) -> Rendered:
    compiled = compile_template(Template(1, "s", html, text), tracked)
    return compiled.render({**DATA, **data}, compiled.stamps(URLS, MESSAGE, ids))


def html_of(html: str, tracked: Tracked = CLICKS, **data: object) -> str:
    found = rendered(html, tracked, **data).html
    assert found is not None
    return found


def opened(text: str) -> str:
    """Put the destinations back that stand in tokens, or link ids as [id]."""

    def original(found: re.Match[str]) -> str:
        token = RING.read(TokenKind.CLICK, found[1])
        assert token.message_id == MESSAGE
        return token.destination or f"[{token.link_id}]"

    return _CLICK.sub(original, text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('<a href="https://a.example/x">', '<a href="{https://a.example/x}">'),
        ("<a href='http://a.example'>", "<a href='{http://a.example}'>"),
        ("<A title=b HREF = https://a.example/ >", "<A title=b HREF = {https://a.example/} >"),
        ('<area href="https://a.example"/>', '<area href="{https://a.example}"/>'),
        ('<a href=" https://a.example\n">', '<a href="{https://a.example}">'),
        ('<a href="HTTPS://a.example/Ü">', '<a href="{https://a.example/%C3%9C}">'),
        ('<a href="https://ü.example:80/">', '<a href="{https://xn--tda.example:80/}">'),
        ('<a href="https://a.example/a b">', '<a href="{https://a.example/a%20b}">'),
        ('<a href="https://a.example/%20?q=%C3">', '<a href="{https://a.example/%20?q=%C3}">'),
        ("<a href=https://a.example/?a&amp;b>", "<a href={https://a.example/?a&b}>"),
        ('<a href="https://a.example/?a&copy=1">', '<a href="{https://a.example/?a&copy=1}">'),
        ('<a href="https://a.example/?a&copy;">', '<a href="{https://a.example/?a%C2%A9}">'),
        ('<a href="{{ url }}">', '<a href="{https://d.example/?a=1&b=2}">'),
        ('<a href="{{ url }}&amp;c=3">', '<a href="{https://d.example/?a=1&b=2&c=3}">'),
        (
            '<a href="https://a.example/?e={{ email|urlencode }}">',
            '<a href="{https://a.example/?e=a%2Bb%40c.example}">',
        ),
        (
            '<a {% if yes %}href="https://a.example"{% else %}href="https://b.example"{% endif %}>',
            '<a href="{https://a.example}">',
        ),
        (
            '<a href="{% if yes %}https://a.example{% else %}x{% endif %}">',
            '<a href="{https://a.example}">',
        ),
        (
            '{% for n in range(2) %}<a href="https://a.example/{{ n }}">{% endfor %}',
            '<a href="{https://a.example/0}"><a href="{https://a.example/1}">',
        ),
        ('{% raw %}<a href="https://a.example">{{x}}{% endraw %}',
         '<a href="{https://a.example}">{{x}}'),
        ('<p title="x""><a href="https://a.example">', '<p title="x""><a href="{https://a.example}">'),
        ('<img data-no-track><a href="https://a.example">',
         '<img data-no-track><a href="{https://a.example}">'),
        ('<p data-no-track>x</p><a href="https://a.example">',
         '<p data-no-track>x</p><a href="{https://a.example}">'),
        ('<!--><a href="https://a.example">', '<!--><a href="{https://a.example}">'),
    ],
)  # fmt: skip
def test_a_link_leads_through_the_tracker(source: str, expected: str) -> None:
    found = html_of(source)
    shown = _CLICK.sub(lambda click: "{" + (RING.read(TokenKind.CLICK, click[1]).destination or "")
                       + "}", found)  # fmt: skip
    assert shown == expected


@pytest.mark.parametrize(
    "source",
    [
        '<a href="mailto:a@b.example">',
        '<a href="tel:+123">',
        '<a href="#top">',
        '<a href="">',
        "<a href=''>",
        "<a href>",
        '<a href="/relative">',
        '<a href="//a.example">',
        '<a href="https://">',
        '<a href="https:a.example">',
        '<a href="javascript:alert(1)">',
        '<a href="https://a.example/\x01/">',
        '<a href="https://a.example/unsubscribe?x=1">',
        '<a href="https://t.example/u/abc">',
        f'<a href="https://a.example/{"x" * 5000}">',
        '<a data-no-track href="https://a.example">',
        '<a href="https://a.example" DATA-NO-TRACK=1>',
        '<td data-no-track><td><a href="https://a.example"></td></td>',
        '<link href="https://a.example"><img src="https://a.example">',
        '<form action="https://a.example">',
        '<!-- <a href="https://a.example"> -->',
        '<!--[if mso]><a href="https://a.example"><![endif]-->',
        '<style><a href="https://a.example"></style>',
        "<script>\"<a href='https://a.example'>\"</script>",
        '<textarea><a href="https://a.example"></textarea>',
        '<title><a href="https://a.example"></title>',
        '<xmp><a href="https://a.example"></xmp>',
        '<plaintext><a href="https://a.example"></plaintext>',
        'text https://a.example and href="https://b.example"',
        '<a title="x""> href="https://a.example" <b title="z">',
        '<a href="https://a.example',
        '<abbr href="https://a.example">',
        '<a xhref="https://a.example">',
        '{% set x %}<a href="https://a.example">{% endset %}{{ x }}',
        '{% filter upper %}<A HREF="HTTPS://A.EXAMPLE">{% endfilter %}',
        "{{ '<a href=\"https://a.example\">'|safe }}",
        "{# <a href='https://a.example'> #}",
        '<a href="{{ email }}">',
        '<a href="#{{ name }}">',
        '<a href="mailto:{{ email }}?subject=https://a.example">',
        "<a href=https://a.example{% if yes %}/x{% endif %}>",
        "<a href=https://a.example  {%- if yes %}/x{% endif %}>",
        "<a href={% if yes %}https://a.example{% endif %}>",
        '<a href="https://a.example{% if yes %}"{% else %}/x"{% endif %}>',
        '<a href="{% set u = url %}{{ u }}">{{ u }}',
    ],
)
def test_what_is_no_link_to_track_stays_to_the_byte(source: str) -> None:
    plain = compile_template(Template(1, "s", source, None)).render(DATA).html
    assert html_of(source) == plain


def test_an_unsubscribe_link_is_never_a_click() -> None:
    own = URLS.unsubscribe(MESSAGE)
    assert html_of('<a href="{{ unsubscribe_url }}">', unsubscribe_url=own) == f'<a href="{own}">'
    assert html_of('<a href="{{ x }}">', x=own) == f'<a href="{own}">'


def test_links_with_rows_carry_their_ids() -> None:
    source = '<a href="https://a.example">1</a><a href="{{ url }}">2</a><a href=https://b.example>3'
    text = "See https://c.example."
    template = Template(1, "s", source, text)
    assert static_links(template) == ("https://a.example", "https://b.example", "https://c.example")
    found = rendered(source, ALL, text=text, ids=(11, None, 13))
    assert opened(found.html or "").startswith(
        '<a href="[11]">1</a><a href="https://d.example/?a=1&b=2">2</a><a href=https://b.example>3'
    )
    assert opened(found.text) == "See [13]."


def test_ids_of_another_number_of_links_are_not_used() -> None:
    found = html_of('<a href="https://a.example">', ids=(1, 2))
    assert opened(found) == '<a href="https://a.example">'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<html><body>x</body></html>", "<html><body>xPIXEL</body></html>"),
        ("<body>x</BODY >", "<body>xPIXEL</BODY >"),
        ("x", "xPIXEL"),
        ("", "PIXEL"),
        ("<!-- </body> -->x", "<!-- </body> -->xPIXEL"),
        ("{% if yes %}a</body>{% else %}b</body>{% endif %}", "aPIXEL</body>"),
        ("{% for n in range(2) %}{{ n }}</body>{% endfor %}", "0PIXEL</body>1</body>"),
        ("{% raw %}{{ x }}</body>{% endraw %}", "{{ x }}PIXEL</body>"),
        ("{% filter upper %}a</body>{% endfilter %}", "A</BODY>PIXEL"),
    ],
)
def test_a_mail_has_one_pixel_at_the_end_of_its_body(source: str, expected: str) -> None:
    found = html_of(source, OPENS)
    pixel = f'<img src="{URLS.open(MESSAGE)}" width="1" height="1" alt="" style="border:0">'
    assert found == expected.replace("PIXEL", pixel)


def test_opens_and_clicks_are_tracked_each_for_itself() -> None:
    source = '<a href="https://a.example">x</a>'
    assert "/o/" not in html_of(source, CLICKS)
    assert "/c/" not in html_of(source, OPENS)
    both = html_of(source, ALL)
    assert "/o/" in both
    assert "/c/" in both
    assert html_of(source, Tracked(opens=False, clicks=False, text=True)) == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("See https://a.example/x.", "See {https://a.example/x}."),
        ("(https://a.example/x_(y)), then", "({https://a.example/x_(y)}), then"),
        ("<https://a.example/?a&amp;b>", "<{https://a.example/?a&amp;b}>"),
        ("https://a.example/{{ name }}/z", "{https://a.example/Ann/z}"),
        ("{{ url }}", "https://d.example/?a=1&b=2"),
        ("https://a.example/unsubscribe", "https://a.example/unsubscribe"),
        ("https://a.example{% if yes %}/x{% endif %}", "https://a.example/x"),
        ("{% raw %}https://a.example{% endraw %}", "https://a.example"),
        ("{% raw %} https://a.example {% endraw %}", " {https://a.example} "),
        ("xhttps://a.example", "xhttps://a.example"),
        ("mailto:a@b.example ftp://a.example", "mailto:a@b.example ftp://a.example"),
    ],
)
def test_urls_of_a_text_are_tracked_where_a_campaign_wants_it(source: str, expected: str) -> None:
    found = rendered(None, ALL, text=source).text
    shown = _CLICK.sub(lambda click: "{" + (RING.read(TokenKind.CLICK, click[1]).destination or "")
                       + "}", found)  # fmt: skip
    assert shown == expected
    plain = compile_template(Template(1, "s", None, source)).render(DATA).text
    assert rendered(None, CLICKS, text=source).text == plain


def test_a_derived_text_shows_the_addresses_that_stood_there() -> None:
    source = '<a href="https://a.example/ü">here</a> <a href="{{ url }}">there</a><p>end'
    plain = compile_template(Template(1, "s", source, None)).render(DATA).text
    found = rendered(source, Tracked(opens=True, clicks=True, text=False), ids=(5,))
    assert found.text == plain
    assert "https://a.example/ü" in plain
    assert opened(rendered(source, ALL, ids=(5,)).text).startswith("here ([5]) there (")


def test_a_mail_is_the_same_at_every_render() -> None:
    source = '<body><a href="https://a.example">x</a><a href="{{ url }}">y</a></body>'
    assert rendered(source, ALL, ids=(3,)) == rendered(source, ALL, ids=(3,))


def test_a_template_at_fault_says_what_it_says_without_tracking() -> None:
    for source in ('<a href="{{ x">', '<a href="{% if %}">', "{% endif %}", "{{ gone }}"):
        said = []
        for tracked in (None, ALL):
            with pytest.raises(RenderError) as caught:
                _tried(source, tracked)
            said.append(str(caught.value))
        assert said[0] == said[1]


def _tried(source: str, tracked: Tracked | None) -> None:
    compiled = compile_template(Template(1, "s", source, None), tracked)
    compiled.render({}, compiled.stamps(URLS, MESSAGE, ()))


def test_a_template_that_no_parser_takes_has_no_links() -> None:
    digits = "9" * 5000
    for source in ("{{ x", f"<a href='https://a.example/{{% if {digits} %}}x{{% endif %}}'>"):
        assert static_links(Template(1, "s", source, source)) == ()


def test_the_calls_of_tracking_are_not_for_templates_without_it() -> None:
    with pytest.raises(RenderError, match="tracking has no part"):
        compile_template(Template(1, "s", "{{ 0|tracked_link }}", None)).render({})


def test_a_template_of_many_links_is_tracked_up_to_a_bound() -> None:
    source = "<a href=https://a.example>" * (MAX_LINKS + 5)
    found = html_of(source)
    assert found.count("/c/") == MAX_LINKS
    assert opened(found) == source


@pytest.mark.parametrize(
    "piece",
    ['<a href="', "<a href='https://a.example", "{{ x }}", "{%- if yes -%}  {% endif %}", "<!--",
     "=", '<a href="https://a.example/{{ x }}{% if yes %}y{% endif %}">', ")", "https://a.example/)))",
     "<p data-no-track>", "&copy", " \r\n"],
)  # fmt: skip
def test_finding_links_takes_time_that_grows_with_the_source_alone(piece: str) -> None:
    def work(size: int) -> int:
        source = piece * (size // len(piece))
        begun = time.process_time_ns()
        static_links(Template(1, "s", source, source))
        return time.process_time_ns() - begun

    work(1_000)
    small = min(work(10_000) for _ in range(2))
    large = min(work(80_000) for _ in range(2))
    # 8 times the source; quadratic would be 64 times.
    assert large < 30 * small + 50_000_000


# Pieces of templates, put together in any order: what is found must hold for all of them.
_pieces = st.sampled_from([
    '<a href="https://a.example/?x=1&amp;y=2">', "<a href='http://b.example'>", "</a>", "<body>",
    "<a class=x href=https://c.example/ id=y>", "</body>", '<p title="a>b">', "</p>", "t &amp; ",
    '<a href="{{ url }}">', '<a href="https://d.example/{{ name }}?z">', "{{ name }}", "\r\n",
    "{% if yes %}", "{% else %}", "{%- endif -%}", "{% for n in [1, 2] %}", "{% endfor %}", "  ",
    '{# href="https://e.example" #}', "{% raw %}", "{% endraw %}", "<!-- ", " -->", "<style>", "é",
    "</style>", '"', "'", ">", "<", "=", "{% filter lower %}", "{% endfilter %}", "<a href=", "\n",
    "{% set q %}", "{% endset %}", "{% set r = 1 %}", "<td data-no-track>", "</td>", 'href="',
    "https://f.example/x", "{{- name -}}", "data-no-track", '<area href="https://g.example">',
])  # fmt: skip
_sources = st.lists(_pieces, max_size=14).map("".join)


@given(_sources | st.text(max_size=40))
@example("<a href=\"https://a.example\">\r\n{%- if yes %}\r{% endif %}<a href='https://b.example'>")
def test_every_byte_outside_the_links_stays(source: str) -> None:
    for find, environment in ((find_in_html, HTML), (find_in_text, TEXT)):
        try:
            found = find(source, environment)
        except jinja2.TemplateSyntaxError:
            assume(False)  # noqa: FBT003 - hypothesis' own
        kept = []
        after = 0
        for link in found.links:
            assert after <= link.start < link.end
            kept.append(source[after : link.start])
            after = link.end
        kept.append(source[after:])
        spliced = with_stamps(found, clicks=True, opens=False, text=False)
        pattern = "(?s:.*?)".join(map(re.escape, kept))
        assert re.fullmatch(pattern, spliced)
        assert with_stamps(found, clicks=False, opens=False, text=False) == source


@given(_sources)
def test_a_tracked_mail_says_the_same_and_leads_to_the_same_places(source: str) -> None:
    try:
        plain = compile_template(Template(1, "s", source, source)).render(DATA)
    except RenderError:
        assume(False)  # noqa: FBT003 - hypothesis' own
    found = rendered(source, ALL, text=source)
    assert plain.html is not None
    assert found.html is not None
    pixel = f'<img src="{URLS.open(MESSAGE)}" width="1" height="1" alt="" style="border:0">'
    assert found.html.count(pixel) == 1
    assert _read(opened(found.html.replace(pixel, ""))) == _read(plain.html)
    assert unquote(opened(found.text)) == unquote(plain.text)


def _read(html: str) -> list[object]:
    """Read HTML with the standard library's parser: texts, and tags with their attributes."""
    reader = _Parser(convert_charrefs=True)
    reader.feed(html)
    reader.close()
    return reader.seen


class _Parser(HTMLParser):
    def __init__(self, *, convert_charrefs: bool) -> None:
        super().__init__(convert_charrefs=convert_charrefs)
        self.seen: list[object] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A destination is escaped as a browser would do it.
        self.seen.append((tag, [(name, unquote(value or "")) for name, value in attrs]))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.seen.append(["text", data])


def test_tokens_of_a_render_are_those_of_its_message() -> None:
    found = _CLICK.findall(html_of('<a href="https://a.example">', ids=(9,)))
    assert [RING.read(TokenKind.CLICK, text) for text in found] == [
        Token(TokenKind.CLICK, MESSAGE, link_id=9)
    ]
