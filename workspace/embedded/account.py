"""Whom the services run as, and what a child does between fork and exec to become that account.

Linux only. Knows nothing of the programs it prepares the children for.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from workspace.embedded.errors import CannotStart

# linux/prctl.h, linux/sched.h, linux/mount.h
PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000

# Loaded before any fork: a child between fork and exec must not load anything.
_libc = ctypes.CDLL(None, use_errno=True)
if os.uname().sysname == "Linux":
    _libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    _libc.unshare.argtypes = [ctypes.c_int]
    _libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]

OWN_SERVERS = "set DATABASE_URL and REDIS_URL to servers of your own"


@dataclass(frozen=True)
class Account:
    """A user id to run as. `hidden` maps each directory the account may not enter to the paths it needs below it."""

    name: str
    uid: int
    gid: int
    hidden: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def choose_account(data: Path, needed: Iterable[Path], preferred: str = "cloister") -> Account:
    """Ourselves, unless we are root, which PostgreSQL refuses; then who owns `data`, else `preferred`, else nobody."""
    me = os.geteuid()
    if me != 0:
        if data.exists() and data.stat().st_uid != me:
            owner = data.stat().st_uid
            raise CannotStart(f"{data} belongs to user id {owner}, not to you: start as its owner or as root")
        return Account(f"user id {me}", me, os.getegid())
    account = _account_for_root(data, preferred)
    barriers: dict[str, list[str]] = {}
    for path in needed:
        barrier = _answer_as(account, lambda p=path: _first_barrier(p))  # type: ignore[misc]
        if barrier:
            barriers.setdefault(barrier, []).append(str(path))
    hidden = tuple((barrier, tuple(paths)) for barrier, paths in barriers.items())
    return Account(account.name, account.uid, account.gid, hidden)


def _account_for_root(data: Path, preferred: str) -> Account:
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(f"user id {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in (preferred, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise CannotStart(
        f"PostgreSQL refuses to run as root, and this machine has neither an account named {preferred} nor nobody: "
        f"start as an ordinary user, or {OWN_SERVERS}"
    )


def _first_barrier(path: Path) -> str:
    return next((str(p) for p in [*reversed(path.parents), path] if not os.access(p, os.X_OK)), "")


def _answer_as(account: Account, ask: Callable[[], str]) -> str:
    """`ask()` answered by a forked child that became the account: exact where mode arithmetic (ACLs, LSMs) is not."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            drop_to(account)
            os.write(write, os.fsencode(ask()))
            os._exit(0)
        except OSError as error:
            os.write(write, (error.strerror or "unknown error").encode())
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = os.fsdecode(pipe.read())
    if os.waitpid(pid, 0)[1]:
        raise CannotStart(
            f"PostgreSQL refuses to run as root, and changing to {account.name} failed ({answer}): "
            f"start as an ordinary user, give the container CAP_SETUID and CAP_SETGID, or {OWN_SERVERS}"
        )
    return answer


def drop_to(account: Account) -> None:
    """Become the account for good. Nothing to do unless we are root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)


def become_owner(path: Path) -> None:
    """Root in somebody else's checkout acts as that somebody, or would leave files behind that they cannot use.

    `path` need not exist yet: then its nearest parent tells. Root stays root where that account cannot run this Python,
    or is a bare number, as in a mounted volume (PostgreSQL cannot run as that: initdb looks the name up).
    """
    if os.geteuid() != 0:
        return
    owner = next(p for p in (path, *path.parents) if p.exists()).stat().st_uid
    try:
        entry = pwd.getpwuid(owner)
        account = Account(entry.pw_name, owner, entry.pw_gid)
        if owner == 0 or _answer_as(account, lambda: _first_barrier(Path(sys.executable).resolve())):
            return
    except (KeyError, CannotStart):
        return
    drop_to(account)
    os.environ["HOME"], os.environ["USER"] = entry.pw_dir, entry.pw_name


def prepare_child(account: Account | None, death_signal: int) -> Callable[[], None]:
    """What runs in a child before exec. Safe as `preexec_fn` because the supervisor has one thread.

    The child gets `death_signal` when the *thread* that forked it ends (prctl(2)): fork from the main thread.
    """
    parent = os.getpid()

    def prepare() -> None:
        if account:
            if account.hidden:
                _reveal(account.hidden)
            drop_to(account)
            os.umask(0o077)
        die_with_parent(death_signal, parent)  # after the change of user, which clears it
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    return prepare


def die_with_parent(death_signal: int, parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _reveal(hidden: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """In a mount namespace of our own, put an empty directory over each barrier and bind the needed paths back.

    No mode is changed, and absolute paths are the same inside and outside, so sockets and postmaster.pid agree.
    """
    _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    for barrier, paths in hidden:
        handles = {path: os.open(path, os.O_PATH) for path in paths if os.path.exists(path)}
        _check(_libc.mount(b"none", os.fsencode(barrier), b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755,size=256k"))
        for path, handle in handles.items():
            os.makedirs(path, mode=0o755, exist_ok=True)
            _check(_libc.mount(f"/proc/self/fd/{handle}".encode(), os.fsencode(path), None, MS_BIND, None))
            os.close(handle)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
