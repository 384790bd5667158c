"""Links between pages lead somewhere, to the heading as well."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "examples/*/README.md")
    for page in ROOT.glob(pattern)
]
LINK = re.compile(r"\]\((?!https?://)([^)\s#]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


def leads_nowhere(page: Path, path: str, anchor: str) -> bool:
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return True
    return bool(anchor) and anchor not in anchors(target)


def test_every_link_of_every_page_leads_somewhere() -> None:
    found = [(page, *link) for page in PAGES for link in LINK.findall(page.read_text())]
    assert len(found) > 150
    wrong = [
        (page.name, path, anchor)
        for page, path, anchor in found
        if leads_nowhere(page, path, anchor)
    ]
    assert wrong == []
