"""Dockerfile, railway.json, .railway/railway.py and README say the same to the platform."""

from __future__ import annotations

import json
import re
import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from campaign_worker.settings import Settings
from campaign_worker.settings.base import variables_of

ROOT = Path(__file__).parents[2]
DRAIN_SECONDS = 60
OVERLAP_SECONDS = 0
HEALTH_PATH = "/health"
HEALTH_TIMEOUT_SECONDS = 120
OF_AN_APP = {"contract.toml"}
"""What an app that is served adds to this repository, and what is not there without one."""


@pytest.fixture
def railway_json() -> dict[str, Any]:
    return dict(json.loads((ROOT / "railway.json").read_text()))


@pytest.fixture
def railway_py(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the one service of .railway/railway.py, as Railway's own library builds it."""
    monkeypatch.setenv("WORKER_REPOSITORY", "somebody/campaign-worker")
    graph = runpy.run_path(str(ROOT / ".railway" / "railway.py"))["main"]().to_graph()
    (service,) = graph["resources"]
    return dict(service)


@pytest.fixture
def dockerfile() -> str:
    """Return the Dockerfile with continued lines joined."""
    return (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


@pytest.fixture
def readme_variables() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| `([^`]*)` \|", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def test_railway_json_holds_numbers_as_numbers(railway_json: dict[str, Any]) -> None:
    deploy = railway_json["deploy"]
    assert deploy["drainingSeconds"] == DRAIN_SECONDS
    assert deploy["overlapSeconds"] == OVERLAP_SECONDS
    assert deploy["healthcheckTimeout"] == HEALTH_TIMEOUT_SECONDS
    for field in ("drainingSeconds", "overlapSeconds", "healthcheckTimeout"):
        assert type(deploy[field]) is int


def test_the_railway_file_says_what_railway_json_says(
    railway_json: dict[str, Any], railway_py: dict[str, Any]
) -> None:
    assert railway_py["deploy"] == railway_json["deploy"]
    own = "/railway.json"
    patterns = [each for each in railway_json["build"]["watchPatterns"] if each != own]
    assert railway_py["build"] == railway_json["build"] | {"watchPatterns": patterns}


def test_applying_the_railway_file_deletes_no_setting(
    monkeypatch: pytest.MonkeyPatch, railway_py: dict[str, Any]
) -> None:
    settings = {
        variable
        for name, field in Settings.model_fields.items()
        for variable in variables_of(name, field)
        if "<" not in variable
    }
    by_railway = {"PORT", "RAILWAY_SERVICE_ID", "RAILWAY_ENVIRONMENT_ID", "RAILWAY_REPLICA_ID"}
    assert settings - by_railway <= set(railway_py["variables"])
    assert railway_py["variables"]["TRACKING_SIGNING_KEYS"] == {"type": "preserve"}
    monkeypatch.setenv("WORKER_VARIABLES", "SMTP_URL_BULK,SMTP_URL_NEWS")
    graph = runpy.run_path(str(ROOT / ".railway" / "railway.py"))["main"]().to_graph()
    kept = graph["resources"][0]["variables"]
    assert kept["SMTP_URL_NEWS"] == kept["SMTP_URL_BULK"] == {"type": "preserve"}


def test_the_process_is_told_the_window_that_the_platform_grants(
    railway_py: dict[str, Any], dockerfile: str, readme_variables: dict[str, str]
) -> None:
    told = railway_py["variables"]["RAILWAY_DEPLOYMENT_DRAINING_SECONDS"]["value"]
    image = re.search(r"\bDRAIN_SECONDS=(\d+)", dockerfile)
    assert image is not None
    assert told == image.group(1) == str(DRAIN_SECONDS)
    assert readme_variables["RAILWAY_DEPLOYMENT_DRAINING_SECONDS"] == str(DRAIN_SECONDS)


def test_readme_names_the_service_variables(
    readme_variables: dict[str, str], railway_json: dict[str, Any], railway_py: dict[str, Any]
) -> None:
    overlap = railway_py["variables"]["RAILWAY_DEPLOYMENT_OVERLAP_SECONDS"]["value"]
    assert readme_variables["RAILWAY_DEPLOYMENT_OVERLAP_SECONDS"] == overlap == str(OVERLAP_SECONDS)
    assert readme_variables["RAILWAY_HEALTHCHECK_TIMEOUT_SEC"] == str(HEALTH_TIMEOUT_SECONDS)
    assert readme_variables["RAILWAY_DOCKERFILE_PATH"] == railway_json["build"]["dockerfilePath"]


def test_readme_sets_the_rest_as_the_file_does(railway_json: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text()
    deploy = railway_json["deploy"]
    (migration,) = deploy["preDeployCommand"]
    assert f"deploy.healthcheckPath {HEALTH_PATH}" in readme
    assert f'deploy.preDeployCommand "{migration}"' in readme
    assert f"deploy.restartPolicyType {deploy['restartPolicyType']}" in readme


def test_the_health_path_is_the_same_everywhere(
    railway_json: dict[str, Any], railway_py: dict[str, Any]
) -> None:
    assert railway_json["deploy"]["healthcheckPath"] == HEALTH_PATH
    assert railway_py["deploy"]["healthcheckPath"] == HEALTH_PATH
    assert f'"{HEALTH_PATH}"' in (ROOT / "campaign_worker" / "healthcheck.py").read_text()


def test_the_image_starts_python_without_a_shell(dockerfile: str) -> None:
    command = re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)[-1]
    assert json.loads(command) == ["campaign-worker", "run"]
    assert not re.search(r"^ENTRYPOINT", dockerfile, re.MULTILINE)


def test_the_image_asks_the_worker_itself_whether_it_is_well(dockerfile: str) -> None:
    last_stage = dockerfile.rsplit("\nFROM ", 1)[1]
    (command,) = re.findall(r"^HEALTHCHECK .*\bCMD (\[.*\])$", last_stage, re.MULTILINE)
    program, _, module = json.loads(command)
    assert (program, module) == ("python", "campaign_worker.healthcheck")
    assert find_spec(module) is not None


def test_the_image_is_slim_and_leaves_its_tools_behind(dockerfile: str) -> None:
    stages = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(stages) == 2
    assert stages[0] == stages[1]
    assert stages[1].endswith("-slim")
    assert "pip" not in dockerfile.rsplit("\nFROM ", 1)[1]


def test_the_image_runs_as_somebody_without_rights(dockerfile: str) -> None:
    last_stage = dockerfile.rsplit("\nFROM ", 1)[1]
    (user,) = re.findall(r"^USER (\S+)$", last_stage, re.MULTILINE)
    assert user not in ("root", "0")
    assert re.search(rf"useradd .*\b{user}$", last_stage, re.MULTILINE)


def test_everything_that_the_image_copies_exists_and_is_let_in(dockerfile: str) -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE):
        sources = line.split()[:-1]
        # A pattern may match nothing only beside a file that is there.
        assert any((ROOT / source).exists() for source in sources)
        copied.update(source.removesuffix("*") for source in sources)
    assert copied == allowed
    assert {path for path in copied if not (ROOT / path).exists()} <= OF_AN_APP


def test_an_apps_contract_is_copied_to_where_a_relative_path_finds_it(dockerfile: str) -> None:
    last_stage = dockerfile.rsplit("\nFROM ", 1)[1]
    lines = [line for line in last_stage.splitlines() if not line.startswith("#")]
    assert lines[lines.index("WORKDIR /app") + 1] == "COPY LICENSE contract.toml* /app/"


def test_no_variable_of_the_image_is_a_secret(dockerfile: str) -> None:
    assert not re.search(r"^(ENV|ARG).*(URL|PASSWORD|SECRET|KEY|TOKEN)", dockerfile, re.MULTILINE)


def test_watched_paths_exist(railway_json: dict[str, Any]) -> None:
    for pattern in railway_json["build"]["watchPatterns"]:
        path = pattern.lstrip("/").removesuffix("/**")
        assert path in OF_AN_APP or (ROOT / path).exists(), pattern
