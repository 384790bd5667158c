"""Templates of campaigns: compiled once per version, rendered for each recipient.

A variable that is missing or null is an error that names it, never an empty place in a mail.
Literal texts of self-contained jobs do not come through here.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jinja2
from jinja2.exceptions import SecurityError

from campaign_worker.delivery.model import Rendered, Template
from campaign_worker.errors import RenderError
from campaign_worker.mail import template_bounds as bounds
from campaign_worker.mail.links_stamps import Stamps, stamping
from campaign_worker.mail.sandbox import HTML, TEXT, Sandbox
from campaign_worker.mail.template_links import MAX_SOURCE, Tracked, stamped
from campaign_worker.mail.text import from_html
from campaign_worker.tracking.urls import TrackingUrls

MAX_TEMPLATES = 256
MAX_DEPTH = 20

_LINE_BREAK = re.compile("[\r\n\x00\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class CompiledTemplate:
    """One version of a template, ready to render. `links` are (URL, shown) by position."""

    subject: jinja2.Template
    html: jinja2.Template | None
    text: jinja2.Template | None
    tracked: Tracked | None = None
    links: tuple[tuple[str, str], ...] = ()

    def stamps(self, urls: TrackingUrls, message_id: int, link_ids: Sequence[int | None]) -> Stamps:
        """Give what a render for this message needs; `link_ids` are in the order of `links`."""
        return Stamps(urls, message_id, self.links, link_ids)

    def render(self, context: Mapping[str, object], stamps: Stamps | None = None) -> Rendered:
        """Render for one recipient; `context` is JSON-like data, `stamps` for what is tracked.

        Raises errors.RenderError naming the part and the variable or the fault.
        """
        values = {name: _guarded(value, name, 0) for name, value in context.items()}
        subject = _render("subject", self.subject, values)
        if _LINE_BREAK.search(subject):
            raise RenderError("subject", "has a line break")
        with stamping(stamps):
            html = None if self.html is None else _render("html", self.html, values)
            if html is not None and stamps is not None and self._wants_pixel(stamps):
                html += stamps.pixel()
            if self.text is not None:
                return Rendered(subject, html, _render("text", self.text, values))
        originals = {} if stamps is None or self._tracks_text() else stamps.originals
        return Rendered(subject, html, "" if html is None else from_html(html, originals))

    def _tracks_text(self) -> bool:
        return self.tracked is not None and self.tracked.text

    def _wants_pixel(self, stamps: Stamps) -> bool:
        return self.tracked is not None and self.tracked.opens and not stamps.pixels


class Templates:
    """Compiled templates by id, the least recently used dropped; a version never changes."""

    def __init__(self, max_templates: int = MAX_TEMPLATES) -> None:
        self._max_templates = max_templates
        self._compiled: OrderedDict[tuple[int, Tracked | None], CompiledTemplate] = OrderedDict()

    def render(self, template: Template, context: Mapping[str, object]) -> Rendered:
        """Compile if need be and render. Raises errors.RenderError."""
        return self.compiled(template).render(context)

    def compiled(self, template: Template, tracked: Tracked | None = None) -> CompiledTemplate:
        """Give the compiled template. Raises errors.RenderError for a syntax error."""
        key = (template.id, tracked)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = compile_template(template, tracked)
            if len(self._compiled) > self._max_templates:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return found


def compile_template(template: Template, tracked: Tracked | None = None) -> CompiledTemplate:
    """Compile all parts. Raises errors.RenderError naming the part and the line."""
    sources, static = (template, ()) if tracked is None else stamped(template, tracked)
    return CompiledTemplate(
        subject=_compile("subject", TEXT, template.subject),
        html=None if sources.html is None else _compile("html", HTML, sources.html),
        text=None if sources.text is None else _compile("text", TEXT, sources.text),
        tracked=tracked,
        links=static,
    )


def _compile(part: str, environment: Sandbox, source: str) -> jinja2.Template:
    if len(source) > MAX_SOURCE:
        raise RenderError(part, f"the template is longer than {MAX_SOURCE} characters")
    # What is constant is computed by the compiler.
    token = bounds.budget.set([bounds.MAX_OUTPUT])
    try:
        return environment.from_string(environment.bounded(source))
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(part, f"line {error.lineno}: {error.message}") from None
    except (SyntaxError, RecursionError, MemoryError):
        raise RenderError(part, "the template is nested too deeply") from None
    finally:
        bounds.budget.reset(token)


def _render(part: str, template: jinja2.Template, values: dict[str, object]) -> str:
    token = bounds.budget.set([bounds.MAX_OUTPUT])
    try:
        return _collect(part, template.generate(values))
    except jinja2.UndefinedError as error:
        raise RenderError(part, _missing(error)) from None
    except SecurityError as error:
        raise RenderError(part, f"not allowed: {error.message}") from None
    except RenderError:
        raise
    except RecursionError:
        raise RenderError(part, "the template is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - data of strangers raises what it likes in a template
        raise RenderError(part, f"{type(error).__name__}: {_short(error)}") from None
    finally:
        bounds.budget.reset(token)


def _collect(part: str, pieces: Iterator[str]) -> str:
    taken: list[str] = []
    left = bounds.MAX_OUTPUT
    for piece in pieces:
        taken.append(piece)
        left -= len(piece)
        if left < 0:
            raise RenderError(part, f"longer than {bounds.MAX_OUTPUT} characters")
    return "".join(taken)


_UNDEFINED = re.compile(r"'([^']*)' is undefined")
_ATTRIBUTE = re.compile(r"'[^']*' has no attribute '([^']*)'")


def _missing(error: jinja2.UndefinedError) -> str:
    """Name the variable; the texts are those of jinja2.Undefined, and of Null below."""
    message = error.message or "a variable is missing"
    found = _UNDEFINED.fullmatch(message) or _ATTRIBUTE.search(message)
    return f"variable '{found[1]}' is missing" if found else message[:200]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _guarded(value: object, name: str, depth: int) -> object:
    """Copy JSON-like data with its nulls made speaking: printing one is an error that names it."""
    if depth > MAX_DEPTH:
        raise RenderError("data", f"variable '{name}' is nested too deeply")
    match value:
        case None:
            return bounds.Null(hint=f"variable '{name}' is null")
        case dict():
            return {key: _guarded(item, str(key), depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_guarded(item, name, depth + 1) for item in value]
        case _:
            return value
