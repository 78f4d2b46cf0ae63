"""Keeps this process's memory, and the keys in it, out of core dumps and away from other processes of the account."""

import ctypes
import resource

PR_SET_DUMPABLE = 4  # prctl(2)


def keep_private() -> None:
    """No core dumps; no debugger of the same account; /proc/<pid> is root's. What we start with exec is as before."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
