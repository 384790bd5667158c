"""Templates: rendered for people, named errors, and nothing that a hostile author could break."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.delivery.model import Rendered, Template
from campaign_worker.errors import RenderError
from campaign_worker.mail.template import Templates, compile_template

DATA: dict[str, object] = {
    "name": "Ann <3", "nothing": None, "items": ["p", "q"], "shop": {"city": "Köln", "zip": None},
    "count": 5, "price": 2.5,
}  # fmt: skip


def text_of(source: str, data: dict[str, object] | None = None) -> str:
    return compile_template(Template(1, "s", None, source)).render(data or DATA).text


def error_of(source: str) -> str:
    with pytest.raises(RenderError) as caught:
        text_of(source)
    assert caught.value.part == "text"
    return caught.value.problem


def test_html_is_escaped_and_subject_and_text_are_not() -> None:
    template = Template(1, "For {{ name }}", "<p>{{ name }}</p>", "For {{ name }}")
    assert Templates().render(template, DATA) == Rendered(
        "For Ann <3", "<p>Ann &lt;3</p>", "For Ann <3"
    )


def test_text_is_derived_from_html_where_absent() -> None:
    assert Templates().render(Template(1, "s", "<p>{{ name }}</p>", None), DATA).text == "Ann <3"


def test_a_template_without_any_body_gives_an_empty_text() -> None:
    assert Templates().render(Template(1, "s", None, None), DATA) == Rendered("s", None, "")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ shop.city }} {{ shop['city'] }} {{ items[0] }}", "Köln Köln p"),
        ("{{ nothing|default('friend') }} {{ missing|default('x') }}", "friend x"),
        ("{% if nothing %}yes{% else %}no{% endif %}", "no"),
        ("{% if nothing is none %}null{% endif %}{% if missing is defined %}no{% endif %}", "null"),
        ("{% if shop.zip == none %}null{% endif %}", "null"),
        ("{% for x in items %}{{ loop.index }}/{{ loop.length }}{{ x }}{% endfor %}", "1/2p2/2q"),
        ("{% for k, v in shop.items() if v %}{{ k }}{% endfor %}", "city"),
        ("{{ name ~ '!' ~ count }} {{ count * 2 + 1 }} {{ 7 % 4 }}", "Ann <3!5 11 3"),
        ("{{ '%.2f'|format(price) }} {{ price|round(1) }}", "2.50 2.5"),
        ("{{ items|join(', ')|upper }} {{ items|map('upper')|list|length }}", "P, Q 2"),
        ("{{ name|replace('<3', '')|trim }} {{ name.upper() }}", "Ann ANN <3"),
        ("{% set x = namespace() %}{% for i in [1] %}{% set x.n = 3 %}{% endfor %}{{ x.n }}", "3"),
        ("{% set x %}a{{ count }}{% endset %}{{ x }}{% filter upper %}b{% endfilter %}", "a5B"),
        ("{% raw %}{{ x }}{% endraw %}\n", "{{ x }}\n"),
        ("{{ 'p' in items }} {{ items == ['p', 'q'] }} {{ 1 < count <= 5 }}", "True True True"),
        ("{{ name[:3] }} {{ items[1:]|first }} {{ {count: name}[5] }}", "Ann q Ann <3"),
        ("{{ items|string }} {{ [shop]|sum('n', 2) if 0 else [1, 2.5]|sum }}", "['p', 'q'] 3.5"),
        ("{% for g in [shop]|groupby('city') %}{{ g.grouper }}{{ g.list|length }}{% endfor %}",
         "Köln1"),
        ("{{ '12'|int + 'x'|int(7) }} {% if 'b' is gt 'a' %}b{% endif %}", "19 b"),
    ],
)  # fmt: skip
def test_what_authors_need_works(source: str, expected: str) -> None:
    assert text_of(source) == expected


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ first_name }}", "variable 'first_name' is missing"),
        ("{{ shop.street }}", "variable 'street' is missing"),
        ("{{ nothing }}", "variable 'nothing' is null"),
        ("{{ shop.zip }}", "variable 'zip' is null"),
        ("{{ name ~ first_name }}", "variable 'first_name' is missing"),
        ("{{ count + nothing }}", "variable 'nothing' is null"),
        ("{% if first_name %}{% endif %}", "variable 'first_name' is missing"),
        ("{% for x in first_name %}{% endfor %}", "variable 'first_name' is missing"),
        ("{{ first_name|upper }}", "variable 'first_name' is missing"),
        ("{{ [first_name]|join }}", "variable 'first_name' is missing"),
        ("{{ items }}", "not allowed: a list cannot be printed"),
        ("{{ count / 0 }}", "ZeroDivisionError: division by zero"),
        ("\n{{ name", "line 2: unexpected end of template, expected 'end of print statement'."),
        ("{{ name|center(9) }}", "line 1: No filter named 'center'."),
        ("\n{% include 'x' %}", "line 2: the tag 'include' is not available"),
        ("{% macro m() %}{% endmacro %}", "line 1: the tag 'macro' is not available"),
    ],
)
def test_what_is_wrong_is_named(source: str, problem: str) -> None:
    assert error_of(source) == problem


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ name.__class__ }}",
        "{{ name|attr('__class__') }}",
        "{{ items.append(1) }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ range.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum() }}",
        "{{ shop.update(a=1) }}",
        "{{ 'a'.format(1) }}",
        "{{ '%s' % name }}",
    ],
)
def test_the_sandbox_has_no_way_out(source: str) -> None:
    assert error_of(source)


_AGAIN = (
    "{% set text, same = 'a' * 200000, 'a' * 200000 %}"
    "{% for i in range(10000) %}{% for j in range(100) %}"
)
_END = "{% endfor %}{% endfor %}"

_BOMBS = [
    "{{ 'a' * 1000000000 }}",
    "{{ [1] * 1000000000 }}",
    "{{ 9 ** 99999999 }}",
    "{% set x = 10 %}" + "{% set x = x * x %}" * 40 + "{{ x }}",
    "{% for i in range(100000000) %}x{% endfor %}",
    "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
    "{% for i in range(10000) %}" + "x" * 1000 + "{% endfor %}",
    "{% for i in range(10000) %}{% set x = ('a' * 1000000)|upper %}{% endfor %}",
    "{% for i in range(10000) %}{% set x = (items * 40000)|sort %}{% endfor %}",
    "{% set b = 'a' * 1000000 %}{% for i in range(10000) %}{% set x = b.upper() %}{% endfor %}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set x = 'ab' %}" + "{% set x = x + x %}" * 60,
    "{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x|join }}",
    "{{ '%999999999d'|format(1) }}",
    "{{ '%*d'|format(999999999, 1) }}",
    "{{ '{:999999999d}'.format(1) }}",
    "{{ 'a'.ljust(999999999) }}",
    "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000)|replace('', 'b' * 100000) }}",
    "{{ range(9999)|join('a' * 100000) }}",
    "{{ 1.5|round(999999999) }}",
    "{{ (1).to_bytes(999999999, 'big') }}",
    "{% for x in items recursive %}{{ loop(items) }}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{% for i in items %}" * 60 + "x" + "{% endfor %}" * 60,
    _AGAIN + "{% if 'aab' in text %}{% endif %}" + _END,
    _AGAIN + "{% if text == same %}{% endif %}" + _END,
    _AGAIN + "{% if text is in(same) %}{% endif %}" + _END,
    _AGAIN + "{% set x = text[1:] %}" + _END,
    _AGAIN + "{% set x = text|replace('b', 'c') %}" + _END,
    _AGAIN + "{% set x = items|join(text) %}" + _END,
    _AGAIN + "{% set x = ('%(a)99s' * 100)|format(a='') %}" + _END,
    "{{ ([range(10000)|list] * 10000)|sum(start=[]) }}",
    "{{ ('%(a)s' * 10000)|format(a='x' * 1000000)|length }}",
    "{{ ([('f' * 1000000)|int(0, 16)] * 1000)|sum|string|length }}",
    "{{ ('a' * 400000).rfind('ab' ~ 'a' * 200000) }}",
    "{{ ('b' * 400000).strip('a' * 400000 ~ 'b') }}",
    "{{ ('b' * 400000)|trim('a' * 400000 ~ 'b') }}",
    "{{ '" + "b" * 400_000 + "'|trim('" + "a" * 400_000 + "b') }}",
    "{{ (['a' * 400000 ~ 'b', 'a' * 400000 ~ 'c'] * 5000)|sort|length }}",
    *(
        "{% set x, y = [1], [1] %}" + "{% set x, y = [x, x], [y, y] %}" * 60 + work
        for work in [
            "{{ x|string|length }}",
            "{{ [x]|map('string')|join }}",
            "{{ {'a': x}.items()|upper }}",
            "{{ {'a': x}|urlencode }}",
            "{{ x == y }}",
            "{{ y in [x] }}",
            "{{ y in [x]|map('list') }}",
            "{{ [x].index(y) }}",
            "{{ [x, y]|sort|length }}",
            "{{ ([x, y]|map('list'))|sort|length }}",
            "{% if x is eq y %}{% endif %}",
            "{% if x is lower %}{% endif %}",
        ]
    ),
    *(
        "{% set x = (1, 2) %}" + "{% set x = (x, x) %}" * 60 + work
        for work in ["{{ {x: 1}|length }}", "{{ shop[x] }}", "{{ shop.get(x) }}"]
    ),
    "{% set n = namespace(x=1) %}"
    + "{% set m = namespace(x=n) %}{% set n = namespace(x=m) %}" * 30
    + "{% set n.x = [n, n] %}{{ n|string }}",
]


@pytest.mark.parametrize("source", _BOMBS, ids=lambda source: source[:50])
def test_a_bomb_is_refused_in_short_time(source: str) -> None:
    began = time.process_time()
    assert error_of(source)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", ["a\nb", "a\r\nBcc: x@y.example", "a\u2028b", "a\x00b"])
def test_a_subject_must_stay_one_line(name: str) -> None:
    template = Template(1, "Hi {{ name }}", None, "x")
    with pytest.raises(RenderError) as caught:
        Templates().render(template, {"name": name})
    assert (caught.value.part, caught.value.problem) == ("subject", "has a line break")


def test_an_error_names_its_part() -> None:
    for part, template in [
        ("subject", Template(1, "{{ x }}", "h", "t")),
        ("html", Template(2, "s", "{{ x }}", "t")),
        ("text", Template(3, "s", "h", "{{ x }}")),
        ("html", Template(4, "s", "{% if %}", "t")),
    ]:
        with pytest.raises(RenderError) as caught:
            Templates().render(template, {})
        assert caught.value.part == part


def test_an_overlong_template_is_refused() -> None:
    assert "longer than" in error_of("x" * 1_000_001)


def test_a_version_is_compiled_once_and_the_oldest_is_dropped() -> None:
    templates = Templates(max_templates=2)
    first, second, third = (Template(n, "s", None, f"{n}") for n in range(3))
    compiled = templates.compiled(first)
    templates.compiled(second)
    assert templates.compiled(first) is compiled
    templates.compiled(third)
    assert templates.compiled(first) is compiled
    assert templates.render(second, {}).text == "1"
    templates.compiled(third)
    assert templates.compiled(first) is not compiled


def test_data_that_is_nested_without_end_is_refused() -> None:
    data: dict[str, object] = {}
    data["self"] = data
    with pytest.raises(RenderError, match="nested too deeply"):
        text_of("x", data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_sources = st.lists(
    st.one_of(
        st.sampled_from([
            "{{", "}}", "{%", "%}", " a ", "a.b", "|", "upper", "~", "*", "for x in ", "endfor",
            "if ", "endif", "set a = ", "'x'", "9", "(", ")", "[", "]", "{#", "#}", "\n", "|join",
        ]),
        st.text(max_size=4),
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(_sources, st.dictionaries(st.sampled_from("abx"), _json, max_size=3))
def test_any_template_renders_or_raises_a_render_error(
    source: str, data: dict[str, object]
) -> None:
    try:
        rendered = Templates().render(Template(1, source, source, source), data)
    except RenderError as error:
        assert error.part in {"subject", "html", "text"}  # noqa: PT017 - either ending is right
    else:
        assert "\n" not in rendered.subject
