"""Files and directories that only their owner may read. Knows nothing of what is in them."""

import os
import stat
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace `path` with a 0600 file, whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


def is_private_directory(path: Path, uid: int) -> bool:
    """Whether `path` itself (not what a link points to) is a directory of `uid` that nobody else may enter."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not stat.S_IMODE(found.st_mode) & 0o077


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: a file made by it is readable by its owner alone."""
    return os.open(path, flags, 0o600)
