"""The package's scripts: known by hash, amended in one place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from campaign_worker.errors import ScriptsChanged
from campaign_worker.queue.amend import amend
from campaign_worker.queue.scripts import OWN, UPSTREAM, _checked, load_scripts

PUSHING = {
    *("moveToActive", "moveToFinished", "moveToDelayed", "retryJob", "moveStalledJobsToWait"),
    *("moveJobFromActiveToWait", "addStandardJob", "addDelayedJob", "addPrioritizedJob"),
}


def test_all_scripts_of_the_pinned_package_are_the_known_ones() -> None:
    assert set(load_scripts()) == {*UPSTREAM, *OWN}


def test_a_changed_script_is_refused_by_name(tmp_path: Path) -> None:
    changed = tmp_path / "moveToActive-11.lua"
    changed.write_text("return 0")
    with pytest.raises(ScriptsChanged) as refused:
        _checked(changed, UPSTREAM["moveToActive"][1], "9.9")
    assert refused.value.script == "moveToActive-11"
    with pytest.raises(ScriptsChanged):
        _checked(tmp_path / "missing.lua", "", "9.9")


def test_exactly_the_scripts_that_push_to_wait_are_amended() -> None:
    amended = {
        name for name, script in load_scripts().items() if "pausedAwareTarget" in script.text
    }
    assert amended == PUSHING


def test_other_text_around_the_push_is_refused() -> None:
    text = load_scripts()["retryJob"].text
    with pytest.raises(ScriptsChanged):
        amend("retryJob", text)


def test_the_packages_worker_is_not_imported_for_its_scripts() -> None:
    code = (
        "import sys; from campaign_worker.queue.scripts import load_scripts; load_scripts();"
        "print([name for name in sys.modules if name.split('.')[0] == 'bullmq'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
