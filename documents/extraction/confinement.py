"""What a process gives up before it parses a stranger's bytes: file system, network, account, resources.

System calls are given up in `seccomp`. Knows nothing of documents.
"""

import contextlib
import ctypes
import os
import resource
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000
# The same numbers on every architecture (they came after the lists were unified).
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, CLOSE_RANGE = 444, 446, 436
LANDLOCK_CREATE_RULESET_VERSION = 1
UNUSED_ID = 65533  # a user and group without an account: not the one PostgreSQL runs as


def landlock_everything() -> int:
    """Deny the file system, TCP, abstract sockets and signals outwards as far as this kernel can.

    Returns its ABI, 0 when it has none.
    """
    abi = _libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    if abi < 1:
        return 0
    files = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}.get(abi, 0xFFFF)
    attributes = struct.pack("QQQ", files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return 0
    try:  # no rule is added: nothing is allowed
        return 0 if _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) else int(abi)
    finally:
        os.close(ruleset)


def enter_namespaces() -> str:
    """Empty network, own mounts, IPC and hostname: as root directly, else through a user namespace where that is allowed."""
    inner = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS
    if os.geteuid() == 0 and _libc.unshare(inner) == 0:
        leave_root()
        return "root"
    leave_root()
    return "user" if _libc.unshare(CLONE_NEWUSER | inner) == 0 else ""


def leave_root() -> None:
    """Become a user who owns nothing. Where root is the only user there is (a namespace of one) we stay, and say so."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(UNUSED_ID, UNUSED_ID, UNUSED_ID)
            os.setresuid(UNUSED_ID, UNUSED_ID, UNUSED_ID)


def refuse_inspection() -> None:
    """No ptrace and no /proc/<pid>/mem from other processes of this user."""
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def refuse_new_privileges() -> bool:
    return bool(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def die_with_parent(signal_number: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def close_from(descriptor: int) -> None:
    if _libc.syscall(CLOSE_RANGE, descriptor, 0xFFFFFFFF, 0):
        os.closerange(descriptor, 1024)


def limit_resources(memory: int, cpu_seconds: int) -> None:
    """Hard limits; RLIMIT_FSIZE 0 means that no byte reaches a disk, even through a descriptor left open by mistake.

    That of the CPU says SIGXCPU first, which tells it from a kill by the system, and a second later SIGKILL.
    """
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 8),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
