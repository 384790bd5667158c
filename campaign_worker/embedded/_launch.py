"""Runs in the child between fork and exec: drops rights, ties the child's life to its parent's.

Started as a plain script (`python -I -S _launch.py PARENT_PID UID GID PROGRAM ...`), so that the
parent needs no preexec_fn. Imports nothing but the standard library.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CANNOT_EXECUTE = 126
PARENT_GONE = 125


def main() -> None:
    """Become the server, or say in one line why not."""
    parent, uid, gid = (int(value) for value in sys.argv[1:4])
    program = sys.argv[4:]
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid: the kernel forgets the death signal when credentials change.
    if libc is not None and libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # The parent may have died before the line above; then nobody would end us.
    if os.getppid() != parent:
        sys.exit(PARENT_GONE)
    try:
        os.execv(program[0], program)  # noqa: S606 - becoming the program is the purpose
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        sys.exit(CANNOT_EXECUTE)


main()
