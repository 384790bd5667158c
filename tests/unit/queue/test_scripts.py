"""The package's scripts: known by hash, amended in one place."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from campaign_worker.errors import ScriptsChanged
from campaign_worker.queue.amend import amend
from campaign_worker.queue.scripts import OWN, RARE, UPSTREAM, _checked, load_scripts

PUSHING = {
    *("moveToActive", "moveToFinished", "moveToDelayed", "retryJob", "moveStalledJobsToWait"),
    *("moveJobFromActiveToWait", "addStandardJob", "addDelayedJob", "addPrioritizedJob"),
    *("promote", "updateJobScheduler", "changePriority", "reprocessJob", "removeJob"),
    *("removeUnprocessedChildren", "removeChildDependency"),
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


def test_a_changed_script_is_an_error_when_a_worker_is_built(tmp_path: Path) -> None:
    installed = metadata.distribution("bullmq")
    (changed,) = ("moveToFinished-14.lua",)
    for file in installed.files or ():
        if file.parts[0].endswith(".dist-info") or file.parts[:2] == ("bullmq", "commands"):
            copy = tmp_path / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(Path(str(installed.locate_file(file))).read_bytes())
    script = tmp_path / "bullmq" / "commands" / changed
    script.write_text(script.read_text() + "\n-- changed\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "from campaign_worker.queue import Worker; Worker('mails', None, {'autorun': False})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ScriptsChanged" in last
    assert "moveToFinished" in last


def test_exactly_the_scripts_that_push_to_wait_are_amended() -> None:
    amended = {
        name for name, script in load_scripts().items() if "pausedAwareTarget" in script.text
    }
    assert amended == PUSHING


@pytest.mark.parametrize("name", ["extendLocks", "extendLock"])
def test_locks_are_prolonged_by_what_a_full_redis_allows(name: str) -> None:
    text = load_scripts()[name].text
    assert 'rcall("PEXPIRE"' in text
    assert 'rcall("SET"' not in "".join(line for line in text.splitlines() if "--" not in line)
    with pytest.raises(ScriptsChanged):
        amend(name, text)


def test_scripts_that_are_sent_late_are_scripts() -> None:
    assert set(load_scripts()) >= RARE
    assert not RARE & {"moveToActive", "moveToFinished", "moveToDelayed", "retryJob", "inspect"}


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
