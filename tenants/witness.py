"""What is written down outside the database, so that whoever writes to the database cannot turn it back unnoticed.

A directory of small files (settings.WITNESS_DIR, beside the keys): numbers that only go up, short records that are replaced
whole, and lists that are only added to. Refuses to know what they mean. A restored database is older than its witness;
that is how it is noticed. Not protected from whoever can write to the directory.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

LOCK = ".lock"


def number(name: str) -> int:
    """The number kept under `name`, a relative path such as "roster/<workspace id>"; 0 when there is none."""
    try:
        return int(_path(name).read_text())
    except FileNotFoundError:
        return 0


def raise_number(name: str, value: int) -> None:
    """Keep the larger of `value` and what is kept."""
    if number(name) >= value:
        return
    with _alone(name):
        if number(name) < value:
            _replace(name, str(value), durable=True)


def record(name: str) -> dict[str, Any] | None:
    """The JSON object kept under `name`. An empty file, which a power cut leaves of what was not `durable`, is none."""
    try:
        text = _path(name).read_text()
    except FileNotFoundError:
        return None
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found


def keep(name: str, value: dict[str, Any], *, durable: bool = True) -> None:
    """Replace the record, whole or not at all. Not `durable`: a power cut may bring the one before back."""
    _replace(name, json.dumps(value), durable=durable)


def exists(name: str) -> bool:
    return _path(name).exists()


def forget(name: str) -> None:
    _path(name).unlink(missing_ok=True)


def names(directory: str) -> list[str]:
    """The names kept below `directory`, each as a relative path."""
    try:
        return sorted(f"{directory}/{each}" for each in os.listdir(_path(directory)) if not each.startswith("."))
    except FileNotFoundError:
        return []


def append(name: str, line: dict[str, Any]) -> int:
    """Add a line to the list, on the disk before this returns. Returns how many bytes the list has now."""
    with _alone(name):
        path = _path(name)
        with open(path, "ab", opener=_private) as file:
            if file.tell() and not _ends_whole(path):
                file.write(b"\n")  # a line that a crash cut off stays what it is: unreadable
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        _sync(path.parent)
        return size


def size(name: str) -> int:
    """Bytes of a list; 0 when there is none."""
    try:
        return _path(name).stat().st_size
    except FileNotFoundError:
        return 0


def written_at(name: str) -> float:
    """When a list was last added to, in seconds since the epoch; 0 when there is none."""
    try:
        return _path(name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def forget_everywhere(name: str, but: Collection[str] = ()) -> None:
    """Forget what is kept under `name` in every directory except these."""
    for directory in names("."):
        if directory.rpartition("/")[2] not in but:
            with suppress(NotADirectoryError):
                forget(f"{directory}/{name}")


def lines(name: str, start: int = 0) -> Iterator[dict[str, Any]]:
    """The lines of a list from a byte offset that `append` or `size` returned. One cut off by a crash is left out."""
    with suppress(FileNotFoundError), open(_path(name), "rb") as file:
        file.seek(start)
        for line in file:
            with suppress(ValueError):
                yield json.loads(line)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Held by one thread of one process at a time: to read a record and replace it."""
    with _alone(name):
        yield


def _path(name: str) -> Path:
    return _located(str(settings.WITNESS_DIR), name)


@lru_cache(maxsize=4096)  # every request looks a dozen of them up
def _located(directory: str, name: str) -> Path:
    path = Path(directory) / name
    if ".." in path.parts:
        raise ValueError(f"{name!r} is no name")
    return path


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    directory = _path(name).parent
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(directory / LOCK, "ab", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(name: str, text: str, *, durable: bool) -> None:
    path = _path(name)
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(new, "x", opener=_private) as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if durable:
        _sync(path.parent)


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
