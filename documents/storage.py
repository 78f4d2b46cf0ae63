"""The bytes of documents on disk: encrypted while they arrive, complete or absent. Knows no row and no format.

Layout: FILES_DIR/<workspace id>/<two characters>/<random name>, mode 0600 in directories of 0700. A file still arriving
ends in ".part"; it gets its name once every byte is on the disk. The name says nothing; the id of the document is bound
into the encryption, so a file put in another's place does not open.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from django.conf import settings

from tenants.context import current_tenant
from tenants.streams import EncryptingWriter, decrypt_chunks

PART = ".part"
ABANDONED_SECONDS = 6 * 3600  # an upload nobody has written to for this long is not coming back


class FileMissing(Exception):
    """A document's file is not where it was put."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete encrypted file, waiting for its row."""

    document_id: UUID
    stored_name: str
    size: int


class IncomingFile:
    """Plaintext goes in, ciphertext goes to disk. Ends with exactly one of `complete()` and `discard()`."""

    def __init__(self, document_id: UUID) -> None:
        self.document_id = document_id
        self._stored_name = secrets.token_hex(20)
        self._path = _path(self._stored_name)
        _make_directories(self._path.parent)
        self._part = self._path.with_name(self._path.name + PART)
        self._raw = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._writer = EncryptingWriter(self._raw, _context(document_id))
        self.size = 0

    def write(self, plaintext: bytes) -> None:
        self._writer.write(plaintext)
        self.size += len(plaintext)

    def complete(self) -> StoredFile:
        size = self._writer.finish()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._part.rename(self._path)
        _sync_directory(self._path.parent)
        return StoredFile(self.document_id, self._stored_name, size)

    def discard(self) -> None:
        for path in (self._part, self._path):  # under its name when completing failed at the very end
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk refuses the rest of the buffer once more; the file is closed
            self._raw.close()


def store(document_id: UUID, pieces: Iterable[bytes]) -> StoredFile:
    """Encrypt a file given in pieces; nothing is left behind when the pieces end in an exception."""
    incoming = IncomingFile(document_id)
    try:
        for piece in pieces:
            incoming.write(piece)
        return incoming.complete()
    except BaseException:
        incoming.discard()
        raise


def read(document_id: UUID, stored_name: str) -> Iterator[bytes]:
    """The plaintext in pieces. Raises FileMissing, or tenants.ciphers.Tampered at the first piece that does not open."""
    with sealed(stored_name) as raw:
        yield from opened(document_id, raw)


def sealed(stored_name: str) -> BinaryIO:
    """A file as it lies on the disk. Raises FileMissing."""
    try:
        return _path(stored_name).open("rb")
    except FileNotFoundError:
        raise FileMissing from None


def opened(document_id: UUID, raw: BinaryIO) -> Iterator[bytes]:
    """The plaintext of a sealed file, if it is this document's and the current workspace's. Raises Tampered."""
    return decrypt_chunks(raw, _context(document_id))


def remove(stored_names: Iterable[str]) -> None:
    """Unlink files; those already gone are fine, and a name that could not be one of ours names no file."""
    for name in stored_names:
        with contextlib.suppress(FileMissing):
            _path(name).unlink(missing_ok=True)


def remove_orphans(known: Collection[str]) -> int:
    """Remove abandoned partial files, and complete files without a row in `known`. Returns how many."""
    removed = 0
    for path, age in list(_files()):
        if age > ABANDONED_SECONDS and path.name not in known:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _files() -> Iterator[tuple[Path, float]]:
    now = time.time()
    for path in _directory().glob("??/*"):
        with contextlib.suppress(FileNotFoundError):
            yield path, now - path.stat().st_mtime


def _directory() -> Path:
    return Path(settings.FILES_DIR) / current_tenant().id.hex


def _path(stored_name: str) -> Path:
    if not (stored_name.isalnum() and stored_name.isascii()):
        raise FileMissing  # a row changed by hand must not lead elsewhere
    return _directory() / stored_name[:2] / stored_name


def _context(document_id: UUID) -> tuple[str, ...]:
    return ("documents_document", "file", str(document_id))


def _make_directories(directory: Path) -> None:
    for level in (directory.parent.parent, directory.parent, directory):
        if not level.is_dir():
            level.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
