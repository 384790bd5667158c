"""What is installed is pinned with hashes, and the pins are what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def locked(name: str) -> dict[str, Requirement]:
    """Return the pins of a lock, each of which must have a hash."""
    # An entry goes on with a backslash; its remarks stand on lines of their own.
    text = re.sub(r" \\\n\s+", " ", (ROOT / "requirements" / name).read_text())
    pins = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            pin, *hashes = re.split(r" --hash=sha256:(?=[0-9a-f]{64})", line)
            assert hashes, pin
            found = Requirement(pin)
            assert [each.operator for each in found.specifier] == ["=="], pin
            pins[canonicalize_name(found.name)] = found
    return pins


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("run.txt", PROJECT["dependencies"]),
        ("dev.txt", [*PROJECT["dependencies"], *EXTRAS["embedded"], *EXTRAS["dev"]]),
    ],
)
def test_a_lock_pins_what_pyproject_asks_for(lock: str, wanted: list[str]) -> None:
    pins = locked(lock)
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version_of(pin), prereleases=True), requirement
        assert str(pin.marker or "") == str(requirement.marker or ""), requirement


def test_tests_run_on_the_versions_of_the_image() -> None:
    tested = {name: version_of(pin) for name, pin in locked("dev.txt").items()}
    image = {name: version_of(pin) for name, pin in locked("run.txt").items()}
    assert {name: tested.get(name) for name in image} == image


def test_the_supported_pythons_are_named() -> None:
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each}
    assert named == {"3.11", "3.12", "3.13"}
    assert PROJECT["requires-python"] == ">=3.11"
    assert PROJECT["name"] == "campaign-worker"
