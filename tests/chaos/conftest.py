"""Chaos runs on the same sites as acceptance."""

from __future__ import annotations

from tests.acceptance.conftest import make_site, site

__all__ = ["make_site", "site"]
