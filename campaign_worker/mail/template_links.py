"""What of a template is tracked: its sources with stamps in them, and the URLs it spells out.

The same for every recipient; done once per version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jinja2
import structlog

from campaign_worker.delivery.model import Template
from campaign_worker.mail.links import Found, find_in_html, find_in_text, with_stamps
from campaign_worker.mail.sandbox import HTML, TEXT, Sandbox

log = structlog.get_logger(__name__)

MAX_SOURCE = 1_000_000
"""Characters of a template's part."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What is tracked: opens, clicks, and those on links of the text part as well."""

    opens: bool
    clicks: bool
    text: bool


def static_links(template: Template) -> tuple[str, ...]:
    """Give the URLs that a template itself spells out, by position: those of the HTML first."""
    return tuple(url for url, _ in _static(*_found(template)))


def stamped(template: Template, tracked: Tracked) -> tuple[Template, tuple[tuple[str, str], ...]]:
    """Give the template with stamps where its links are, and (URL, shown) by position."""
    html, text = _found(template)
    sources = template
    if html is not None:
        source = with_stamps(html, clicks=tracked.clicks, opens=tracked.opens, text=False)
        sources = replace(sources, html=source)
    if text is not None and tracked.clicks and tracked.text:
        first = 0 if html is None else len(html.static)
        source = with_stamps(text, clicks=True, opens=False, text=True, first=first)
        sources = replace(sources, text=source)
    return sources, _static(html, text)


def _static(*parts: Found | None) -> tuple[tuple[str, str], ...]:
    return tuple(link for part in parts if part is not None for link in part.static)


def _found(template: Template) -> tuple[Found | None, Found | None]:
    """Find the links of both parts; nothing in a source that does not compile anyway.

    Never raises: a claim asks as well, and one template must not stop the claims of all.
    """
    try:
        return (
            _found_in(find_in_html, template.html, HTML),
            _found_in(find_in_text, template.text, TEXT),
        )
    except jinja2.TemplateSyntaxError:
        pass  # its author hears of it from the compiler
    except Exception as error:  # noqa: BLE001 - a mail without tracking is better than none
        log.warning("links", template=template.id, kind=type(error).__name__)
    return None, None


def _found_in(
    find: Callable[[str, jinja2.Environment], Found], source: str | None, sandbox: Sandbox
) -> Found | None:
    return None if source is None or len(source) > MAX_SOURCE else find(source, sandbox)
