"""The unprivileged account that a server runs as when we are root, and what it can reach."""

from __future__ import annotations

import dataclasses
import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PREFERRED = ("postgres", "nobody", "daemon")


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine without rights of its own."""

    name: str
    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether `path`, a folder or program, can be entered or executed through its parents."""
        return all(self._may_execute(part) for part in (path, *path.parents))

    def own(self, folder: Path) -> None:
        """Give a folder and all in it to the account."""
        for part in (folder, *folder.rglob("*")):
            os.chown(part, self.uid, self.gid, follow_symlinks=False)

    def _may_execute(self, path: Path) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def unprivileged() -> Account | None:
    """Return the account to drop to, None when we are not root and nothing must be dropped."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in (*_PREFERRED, *known):
        if name in known:
            return Account(name, known[name].pw_uid, known[name].pw_gid)
    return None
