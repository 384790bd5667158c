"""The few pages that people see, in their language: plain HTML, no script, no cookie, no address.

Texts are in pages.toml. Everything is made once; a request only chooses.
"""

from __future__ import annotations

import enum
import tomllib
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Final

ONE_CLICK: Final = ("List-Unsubscribe", "One-Click")
"""The field that a mailbox provider posts (RFC 8058, 3.1); the page's button posts the same."""

_LANGUAGES_READ: Final = 16
_HEADER_READ: Final = 512

_LAYOUT: Final = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.125rem/1.5 system-ui, sans-serif; margin: 0; padding: 10vh 1.5rem; }}
main {{ max-width: 32rem; margin: 0 auto; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; }}
button {{ font: inherit; padding: .75rem 1.5rem; min-height: 3rem; cursor: pointer; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
{form}</main>
</body>
</html>
"""

# No action: the form posts to the page's own URL, wherever a proxy has put it.
_FORM: Final = """<form method="post">
<input type="hidden" name="{name}" value="{value}">
<button type="submit">{button}</button>
</form>
"""


class Page(enum.Enum):
    """What a page says; values are the beginnings of the keys in pages.toml."""

    ASK = "ask"
    DONE = "done"
    AWAY = "away"
    GONE = "gone"
    WRONG = "wrong"


class Pages:
    """Every page in every language of `texts`, by language; the first one is for everybody else.

    Raises ValueError when a language lacks a text.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._default = next(iter(texts))
        for language, words in texts.items():
            if words.keys() != texts[self._default].keys():
                raise ValueError(f"{language} has not the texts of {self._default}")
        self._pages = {
            (language, page): _page(language, page, words).encode()
            for language, words in texts.items()
            for page in Page
        }
        self.languages = tuple(texts)

    @classmethod
    def load(cls) -> Pages:
        """Read pages.toml."""
        text = resources.files("campaign_worker.tracking").joinpath("pages.toml").read_text("utf-8")
        return cls(tomllib.loads(text))

    def language(self, accepted: str | None) -> str:
        """Choose by Accept-Language (RFC 9110, 12.5.4)."""
        for wanted in _by_preference((accepted or "")[:_HEADER_READ]):
            if (wanted, Page.ASK) in self._pages:
                return wanted
        return self._default

    def page(self, page: Page, language: str) -> bytes:
        """Give a page in one of `languages`, as UTF-8."""
        return self._pages[language, page]


def _page(language: str, page: Page, words: Mapping[str, str]) -> str:
    name, value = ONE_CLICK
    form = ""
    if page is Page.ASK:
        form = _FORM.format(name=name, value=value, button=escape(words["ask_button"]))
    return _LAYOUT.format(
        language=escape(language),
        title=escape(words[f"{page.value}_title"]),
        text=escape(words[f"{page.value}_text"]),
        form=form,
    )


def _by_preference(header: str) -> list[str]:
    """Give the languages of the header, the dearest first; what is no weight counts as 1."""
    wanted = []
    for part in header.split(",")[:_LANGUAGES_READ]:
        tag, _, parameter = part.partition(";")
        weight = _weight(parameter)
        if weight > 0:
            wanted.append((-weight, tag.strip().lower().partition("-")[0]))
    # Sorting keeps the order of equals.
    return [tag for _, tag in sorted(wanted, key=lambda entry: entry[0])]


def _weight(parameter: str) -> float:
    name, _, number = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        weight = float(number)
    except ValueError:
        return 1.0
    return weight if 0 <= weight <= 1 else 1.0
