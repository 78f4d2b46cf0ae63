"""Who runs the services of a home, and who else uses them: two locked files, both free again when a process dies.

`lock` belongs to the one process that runs them; what it says about itself stands in it. `uses` is shared by all who
use services run by somebody else, so that these are not stopped under them.
"""

import fcntl
import json
import os
from pathlib import Path

from workspace.embedded.errors import AlreadyRunning, CannotStart
from workspace.embedded.private import private_opener


class Claim:
    """The right to run the services of `home`, held until `release` or the end of this process."""

    def __init__(self, home: Path, about: dict[str, str]) -> None:
        """`about` is what others read about us meanwhile. Raises `AlreadyRunning` when another process holds it."""
        try:
            if not home.exists():
                home.mkdir(parents=True, exist_ok=True)
                home.chmod(0o711)  # whatever our umask: the services' account has to pass through
            self._lock = open(home / "lock", "a+", opener=private_opener)  # noqa: SIM115 (held as long as we live)
            self._uses = open(home / "uses", "a", opener=private_opener)  # noqa: SIM115
        except PermissionError as error:
            owner = next(p for p in (home, *home.parents) if p.exists()).stat().st_uid
            raise CannotStart(f"{home} belongs to user id {owner}: start as that user or as root") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._uses.close()
            raise AlreadyRunning(f"the services of {home} are already running", about_runner(home)) from None
        self._about: dict[str, str] = {}
        self.describe(**about, pid=str(os.getpid()), ready="no")

    def describe(self, **words: str) -> None:
        self._about |= words
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps(self._about))
        self._lock.flush()

    def close_to_others(self) -> bool:
        """False while somebody uses the services; once true, nobody new can."""
        try:
            fcntl.flock(self._uses, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        self._lock.truncate(0)
        self._uses.close()
        self._lock.close()


class Use:
    """Services that another process runs, held for as long as `file` is open: in us and in what we become by exec."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.file = open(home / "uses", "a", opener=private_opener)  # noqa: SIM115

    def begin(self) -> bool:
        """False: they are not ready yet, or being stopped."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if about_runner(self._home).get("ready") == "yes":
            return True
        fcntl.flock(self.file, fcntl.LOCK_UN)
        return False


def about_runner(home: Path, *, alive: bool = False) -> dict[str, str]:
    """What the runner said about itself; after a kill -9 that may be a dead one's, unless `alive` is asked for."""
    try:
        found = json.loads((home / "lock").read_text() or "{}")
    except (FileNotFoundError, ValueError):  # nobody yet, or just being written
        return {}
    except PermissionError:  # somebody else's: `Claim` will say so
        return {}
    if alive and not os.path.exists(f"/proc/{found.get('pid')}"):
        return {}
    return {str(key): str(value) for key, value in found.items()}
