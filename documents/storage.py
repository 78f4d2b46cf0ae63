"""The bytes of documents on disk: encrypted while they arrive, complete or absent. Knows no row and no format.

Layout: FILES_DIR/<workspace id>/<two characters>/<random name>, mode 0600 in directories of 0700. A file still arriving
ends in ".part"; it gets its name once every byte is on the disk. One ending in ".anew" is the same file being encrypted
under another key; it takes the place of the other. The name says nothing; the id of the document is bound
into the encryption, so a file put in another's place does not open.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from django.conf import settings

from tenants.ciphers import Tampered, seed
from tenants.context import current_tenant
from tenants.keys.keyring import refuse_frozen
from tenants.streams import DecryptingReader, EncryptingWriter, decrypt_chunks, version_of

PART = ".part"
ANEW = ".anew"
ABANDONED_SECONDS = 6 * 3600  # an upload nobody has written to for this long is not coming back
PIECES_BETWEEN_BREATHS = 16  # of a file encrypted anew: a megabyte
FULL_BYTES = 1024**3  # with less left the disk is nearly full
KEPT_FREE_BYTES = 200 * 1024**2  # never filled with files


class FileMissing(Exception):
    """A document's file is not where it was put."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete encrypted file, waiting for its row."""

    document_id: UUID
    stored_name: str
    size: int
    content_digest: bytes | None = None  # keyed, of the plaintext


def content_hasher() -> hmac.HMAC:
    """Fed a file's bytes, it tells whether two files of this workspace are the same, and nothing across workspaces."""
    return hmac.new(seed("dedupe", "content"), digestmod=hashlib.sha256)


def content_digest(pieces: Iterable[bytes]) -> bytes:
    hasher = content_hasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


class IncomingFile:
    """Plaintext goes in, ciphertext goes to disk. Ends with exactly one of `complete()` and `discard()`."""

    def __init__(self, document_id: UUID) -> None:
        self.document_id, self._tenant_id = document_id, current_tenant().id
        self._stored_name = secrets.token_hex(20)
        self._path = _path(self._stored_name)
        _make_directories(self._path.parent)
        self._part = self._path.with_name(self._path.name + PART)
        self._raw = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._writer = EncryptingWriter(self._raw, _context(document_id))
        self._hasher = content_hasher()
        self.size = 0

    def write(self, plaintext: bytes) -> None:
        refuse_frozen(self._tenant_id)
        self._writer.write(plaintext)
        self._hasher.update(plaintext)
        self.size += len(plaintext)

    def complete(self) -> StoredFile:
        size = self._writer.finish()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._part.rename(self._path)
        _sync_directory(self._path.parent)
        return StoredFile(self.document_id, self._stored_name, size, self._hasher.digest())

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


def key_version(stored_name: str) -> int:
    """Which version of the workspace's key a file is encrypted under. Raises FileMissing, or Tampered."""
    with sealed(stored_name) as raw:
        return version_of(raw)


def encrypt_anew(document_id: UUID, stored_name: str, breathe: Callable[[], None]) -> None:
    """Encrypt a file under the current key beside itself; `put_anew` or `drop_anew` ends it.

    `breathe` is called now and then, and may raise. Raises FileMissing, or Tampered.
    """
    with sealed(stored_name) as old, open(_anew(stored_name), "wb", opener=_private) as raw:
        writer = EncryptingWriter(raw, _context(document_id))
        for number, piece in enumerate(opened(document_id, old)):
            writer.write(piece)
            if number % PIECES_BETWEEN_BREATHS == 0:
                breathe()
        writer.finish()
        raw.flush()
        os.fsync(raw.fileno())


def put_anew(stored_name: str) -> None:
    """In the place of the file as it was; who reads that goes on reading it. Call it while holding the document's row."""
    _anew(stored_name).replace(_path(stored_name))
    _sync_directory(_path(stored_name).parent)


def drop_anew(stored_name: str) -> None:
    _anew(stored_name).unlink(missing_ok=True)


def arriving(known: Collection[str], current: int) -> int:
    """How many files without a row in `known`, not abandoned, are or may be encrypted under an earlier key."""
    found = 0
    for path, age in list(_files()):
        if path.name not in known and path.suffix != ANEW and age < ABANDONED_SECONDS:
            with contextlib.suppress(FileNotFoundError), path.open("rb") as raw:
                try:
                    found += version_of(raw) != current
                except Tampered:  # nothing of it has reached the disk yet
                    found += 1
    return found


@contextlib.contextmanager
def _closed_on_error(raw: BinaryIO) -> Iterator[None]:
    try:
        yield
    except BaseException:
        raw.close()
        raise


class WholeFile:
    """A document's file, opened and proven complete, of which any range can be read. Raises FileMissing, Tampered."""

    def __init__(self, document_id: UUID, stored_name: str) -> None:
        self._raw = sealed(stored_name)
        with _closed_on_error(self._raw):
            self._reader = DecryptingReader(self._raw, _context(document_id))
        self.size, self.fingerprint = self._reader.size, self._reader.fingerprint

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The plaintext from `start` up to `stop`, in pieces; the file is closed after them. Raises Tampered."""
        with self._raw:
            yield from self._reader.read(start, stop)

    def close(self) -> None:
        self._raw.close()


def remove(stored_names: Iterable[str]) -> None:
    """Unlink files; those already gone are fine, and a name that could not be one of ours names no file."""
    for name in stored_names:
        with contextlib.suppress(FileMissing):
            _path(name).unlink(missing_ok=True)
            drop_anew(name)


def left() -> int:
    """Bytes that are free where files go."""
    place = Path(settings.FILES_DIR)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def is_nearly_full() -> bool:
    return left() < FULL_BYTES


def has_room(size: int) -> bool:
    """Whether `size` more bytes fit, and what a database on the same disk needs is left."""
    return left() - size > KEPT_FREE_BYTES


def is_there(stored_name: str) -> bool:
    """Whether there is a file of that name, whole or still arriving."""
    try:
        path = _path(stored_name)
    except FileMissing:
        return False
    return path.exists() or path.with_name(path.name + PART).exists()


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


def _anew(stored_name: str) -> Path:
    return _path(stored_name).with_name(stored_name + ANEW)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


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
