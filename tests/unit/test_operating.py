"""docs/operating.md names metrics, commands and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from typer.main import get_command

from campaign_worker.cli import app
from campaign_worker.settings import Settings
from campaign_worker.settings.base import variables_of
from metrics import PrometheusListener

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
METRIC = re.compile(r"campaign_worker_(\w+?)(?:_total|_bucket)?(?:\{(\w+)=~?\"|\b)")


def test_each_metric_that_is_named_is_there_with_its_label() -> None:
    registry = CollectorRegistry()
    PrometheusListener(registry)
    families = {
        one._name: one._labelnames  # type: ignore[attr-defined]  # prometheus_client shows neither
        for one in registry._collector_to_names
    }
    named = METRIC.findall(PAGE)
    assert len(named) >= 9
    wrong = [
        (name, label)
        for name, label in named
        if f"campaign_worker_{name}" not in families
        or (label and label not in families[f"campaign_worker_{name}"])
    ]
    assert wrong == []


def test_each_command_that_is_named_is_there() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]  # of a group
    named = set(re.findall(r"`campaign-worker ([a-z-]+)", PAGE))
    assert len(named) >= 5
    assert named - commands == set()


def test_each_setting_that_is_named_is_there() -> None:
    known = {
        variable
        for name, field in Settings.model_fields.items()
        for variable in variables_of(name, field)
    }
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", PAGE))
    assert named - known == set()
