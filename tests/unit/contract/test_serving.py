"""A contract's queues stand in for QUEUES."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campaign_worker.contract.serving import served
from campaign_worker.errors import ContractError
from campaign_worker.settings import QueueLimit, QueueSpec, Settings

TEXT = """
version = 1
[queues.campaign]
concurrency = 7
limiter = { max = 100, duration_ms = 1000 }
[queues."follow-up"]
[jobs."*"]
kind = "park"
"""


def settings_of(**values: Any) -> Settings:
    given = {
        "database_url": "postgres://u@h/d",
        "redis_url": "redis://h",
        "smtp_url": "smtp://h",
        "mail_from": "a@example.org",
        "concurrency": 3,
    }
    return Settings.load(env_file=None, **{**given, **values})


def test_without_a_contract_the_settings_are_as_they_were() -> None:
    settings = settings_of()
    assert served(settings) == (settings, None)


def test_its_queues_are_served_with_their_own_limits(tmp_path: Path) -> None:
    file = tmp_path / "contract.toml"
    file.write_text(TEXT)
    settings, source = served(settings_of(contract=file))
    assert source is not None
    assert settings.queues == (
        QueueSpec("campaign", 7, QueueLimit(100, 1000)),
        QueueSpec("follow-up", 3),
    )
    assert settings.smtp_max_connections == 10
    assert served(settings_of(contract=file, smtp_max_connections=4))[0].smtp_max_connections == 4


def test_a_file_that_is_not_there_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ContractError):
        served(settings_of(contract=tmp_path / "none.toml"))
