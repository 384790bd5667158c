"""docs/configuration.md says what the classes say."""

from __future__ import annotations

from pathlib import Path

from campaign_worker.settings import Settings, configuration_page
from campaign_worker.settings.base import variable_of

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_in_step_with_the_classes() -> None:
    assert PAGE.read_text() == configuration_page(), "run: make docs"


def test_every_setting_is_on_the_page_with_a_meaning() -> None:
    page = configuration_page()
    for name, field in Settings.model_fields.items():
        assert f"| `{variable_of(name, field)}` |" in page
        assert field.description
