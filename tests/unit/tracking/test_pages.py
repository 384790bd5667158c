"""Pages are complete in every language, without a script, and escape every text."""

from __future__ import annotations

import html.parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.tracking.pages import Page, Pages

PAGES = Pages.load()
ENGLISH = {
    f"{page.value}_{part}": f"{page.value} {part}" for page in Page for part in ("title", "text")
} | {"ask_button": "go"}


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("language", PAGES.languages)
@pytest.mark.parametrize("page", list(Page))
def test_a_page_names_its_language_and_loads_nothing(page: Page, language: str) -> None:
    reader = Reader()
    reader.feed(PAGES.page(page, language).decode())
    tags = [tag for tag, _ in reader.tags]
    assert ("html", {"lang": language}) in reader.tags
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    assert not {"script", "img", "link", "iframe", "a"} & set(tags)
    assert ("form" in tags) == ("button" in tags) == (page is Page.ASK)


def test_texts_are_never_markup() -> None:
    pages = Pages({"en": {**ENGLISH, "ask_title": "<b>&", "ask_button": '"><script>'}})
    page = pages.page(Page.ASK, "en").decode()
    assert "<h1>&lt;b&gt;&amp;</h1>" in page
    assert "<script>" not in page


def test_a_language_without_all_texts_is_told() -> None:
    with pytest.raises(ValueError, match="de has not the texts of en"):
        Pages({"en": ENGLISH, "de": {"ask_title": "x"}})


@given(st.text(max_size=600))
def test_every_wish_for_a_language_has_an_answer(header: str) -> None:
    assert PAGES.language(header) in PAGES.languages


def test_the_dearest_language_that_is_there_is_chosen() -> None:
    assert PAGES.language("fr;q=0.2, de;q=0.9, en;q=0.5") == "de"
    assert PAGES.language("DE-at") == "de"
    assert PAGES.language("de;q=nonsense, en;q=0.3") == "de"
    assert PAGES.language("de;q=0") == "en"
    assert PAGES.language(None) == "en"
