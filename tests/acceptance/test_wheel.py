"""What a user installs: a wheel that works without the sources and without the extras."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def ran(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return its stdout; it must exit with 0."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this tree; `python -m build` makes it from the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    ran(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of an environment that has the wheel and the image's lock only."""
    folder = tmp_path_factory.mktemp("venv")
    ran(sys.executable, "-m", "venv", folder, cwd=folder)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    lock = ROOT / "requirements" / "run.txt"
    ran(*pip, "--disable-pip-version-check", "--require-hashes", "-r", lock, cwd=folder)
    ran(*pip, "--disable-pip-version-check", "--no-deps", wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        *("campaign_worker", "shutdown", "metrics")
    }
    tracked = ran("git", "ls-files", "campaign_worker", "shutdown", "metrics", cwd=ROOT).split()
    assert sorted(set(tracked) - set(names)) == []


def test_the_installed_command_works_outside_of_the_sources(
    installed: Path, tmp_path: Path
) -> None:
    command = installed / "campaign-worker"
    assert "Work on the queues until SIGTERM" in ran(command, "run", "--help", cwd=tmp_path)
    assert "campaign-worker 0." in ran(command, "version", cwd=tmp_path)


def test_what_run_and_check_import_needs_no_extra(installed: Path, tmp_path: Path) -> None:
    modules = (
        "import campaign_worker.app, campaign_worker.check, campaign_worker.tracker;"
        " import campaign_worker.tracking.webhooks.ses_source; print('imported')"
    )
    assert ran(installed / "python", "-c", modules, cwd=tmp_path) == "imported\n"


def test_the_demo_without_its_extra_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(installed / "campaign-worker"), "demo"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "campaign-worker: the demo needs: pip install 'campaign-worker[embedded]'\n"
    )
