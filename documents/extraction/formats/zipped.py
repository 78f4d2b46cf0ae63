"""ZIP archives of files: what is in them, and each file unpacked in pieces, those of archives within them too.

Only what the directory says is trusted, and that within limits: nothing is unpacked that is larger, denser or more than it
may be, and no more of a file than the directory says it has.
"""

import contextlib
import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

from documents.extraction import members
from documents.extraction.archives import open_zip
from documents.extraction.detection import is_archive, is_zip
from documents.extraction.members import ZIP, LeftOut, folder_of
from documents.reasons import Reason, Unreadable

DEPTH = 2  # of archives within the archive
PATH_CHARACTERS = 1000
DENSE_BYTES, DENSEST = 10_000_000, 250  # a larger file is not unpacked from less than a 250th of its size
HELD_BYTES = 200_000_000  # of a file that may itself be an archive, which has to be whole before it is known
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_SYSTEM_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"}
_UTF8_FLAG, _ENCRYPTED_FLAGS = 0x800, 0x41
_UNIX = 3
_LOCAL_HEADER = 30  # bytes, before the name
# What zipfile and the decompressors below it raise at bytes that were damaged, or made to ask for too much.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError, OverflowError,
    NotImplementedError, RuntimeError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    info: ZipInfo
    left_out: LeftOut | None


def read_zip(document: bytes) -> str:
    """A line for each file. Raises Unreadable: too much, nothing in it, or nothing that can be opened without a password."""
    entries = _entries(open_zip(document))
    why = Counter(entry.left_out for entry in entries)
    if not why[None]:
        if why[LeftOut.ENCRYPTED]:
            raise Unreadable(Reason.ENCRYPTED, ZIP)
        if set(why) <= {LeftOut.SYSTEM, LeftOut.EMPTY}:
            raise Unreadable(Reason.EMPTY, ZIP)
    return "\n".join(entry.path for entry in entries if entry.left_out is not LeftOut.SYSTEM)


def unpack(document: bytes) -> Iterator[bytes]:
    """Every file in the archive's order, as frames of `members`: the same ones with the same numbers every time."""
    archive = open_zip(document)
    yield from _Unpacking().files(archive, _entries(archive), "", 0)
    yield members.pack_done()


class _Unpacking:
    def __init__(self) -> None:
        self._number = self._total = 0
        self._bytes = self._held = 0  # unpacked into documents; unpacked to be looked at

    def files(self, archive: ZipFile, entries: list[_Entry], above: str, depth: int) -> Iterator[bytes]:
        self._total += len(entries)
        for entry in entries:
            path = f"{above}{entry.path}"
            if self._number > members.MAX_FILES:  # the first that is too much has been named
                return
            if entry.left_out:
                yield from self._left_out(path, entry.info.file_size, entry.left_out)
            else:
                yield from self._file(archive, entry.info, path, depth)

    def _file(self, archive: ZipFile, info: ZipInfo, path: str, depth: int) -> Iterator[bytes]:
        inner: ZipFile | None = None
        entries: list[_Entry] = []
        try:
            file: BinaryIO = archive.open(info)  # type: ignore[assignment]  # what it has of one
            head = file.read(members.PIECE_BYTES)
            if is_zip(head):
                if info.file_size > HELD_BYTES:
                    yield from self._left_out(path, info.file_size, LeftOut.HELD)
                    return
                self._held += info.file_size
                if self._held > members.MAX_TOTAL_BYTES:
                    raise Unreadable(Reason.TOO_LARGE)
                content = head + file.read()
                file, head = io.BytesIO(content), b""
                inner = open_zip(content) if is_archive(content) else None
                entries = _entries(inner) if inner and depth < DEPTH else []
        except Unreadable as unreadable:
            yield from self._left_out(path, info.file_size, _WHY.get(unreadable.reason, LeftOut.UNSAFE))
        except _BROKEN:
            yield from self._left_out(path, info.file_size, LeftOut.DAMAGED)
        else:
            if inner is None:
                yield from self._taken(path, file, head, info.file_size)
            elif depth == DEPTH:
                yield from self._left_out(path, info.file_size, LeftOut.NESTED)
            else:
                self._total -= 1
                yield from self.files(inner, entries, f"{folder_of(path)}/", depth + 1)

    def _left_out(self, path: str, size: int, why: LeftOut) -> Iterator[bytes]:
        self._number += 1
        yield members.pack_file(self._number, self._shown(), path[:PATH_CHARACTERS], size, why)

    def _taken(self, path: str, file: BinaryIO, head: bytes, size: int) -> Iterator[bytes]:
        if len(path) > PATH_CHARACTERS:
            yield from self._left_out(path, size, LeftOut.NAME)
            return
        if self._bytes + size > members.MAX_TOTAL_BYTES or self._number >= members.MAX_FILES:
            yield from self._left_out(path, size, LeftOut.TOO_MUCH)
            return
        self._number += 1
        self._bytes += size
        yield members.pack_file(self._number, self._shown(), path, size)
        try:
            left = size
            piece = head or file.read(members.PIECE_BYTES)
            while piece:
                left -= len(piece)
                yield members.pack_piece(piece)
                piece = file.read(members.PIECE_BYTES)
        except _BROKEN:
            yield members.pack_end(LeftOut.DAMAGED)
        else:
            yield members.pack_end(LeftOut.DAMAGED if left else None)

    def _shown(self) -> int:
        return min(max(self._total, self._number), members.MAX_FILES + 1)


_WHY = {
    Reason.ENCRYPTED: LeftOut.ENCRYPTED,
    Reason.DAMAGED: LeftOut.DAMAGED,
    Reason.EMPTY: LeftOut.EMPTY,
    Reason.TOO_LARGE: LeftOut.TOO_MUCH,
}


def _entries(archive: ZipFile) -> list[_Entry]:
    """Files in the archive's order, folders left out. Raises Unreadable when there are too many, or they share their bytes."""
    infos = archive.infolist()
    files = [(_path(info), info) for info in infos if not _is_folder(info)]
    if len(files) > members.MAX_FILES:
        raise Unreadable(Reason.TOO_COMPLEX, "files")
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise Unreadable(Reason.TOO_COMPLEX, "overlap")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size
    last = {path: place for place, (path, _) in enumerate(files)}
    entries = [
        _Entry(path, info, _left_out(path, info) or (LeftOut.REPLACED if last[path] != place else None))
        for place, (path, info) in enumerate(files)
    ]
    if sum(entry.info.file_size for entry in entries if entry.left_out is None) > members.MAX_TOTAL_BYTES:
        raise Unreadable(Reason.TOO_LARGE, "total")
    return entries


def _left_out(path: str, info: ZipInfo) -> LeftOut | None:
    parts = path.split("/")
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
    if ".." in parts or path.startswith("/") or path[1:2] == ":":
        return LeftOut.OUTSIDE
    if any(part.startswith((".", "__MACOSX")) or part.lower() in _SYSTEM_NAMES for part in parts):
        return LeftOut.SYSTEM
    if kind not in (0, stat.S_IFREG):
        return LeftOut.LINK
    if info.flag_bits & _ENCRYPTED_FLAGS:
        return LeftOut.ENCRYPTED
    if not info.file_size:
        return LeftOut.EMPTY
    if info.file_size > members.MAX_FILE_BYTES:
        return LeftOut.TOO_LARGE
    if info.file_size > DENSE_BYTES and info.file_size > DENSEST * info.compress_size:
        return LeftOut.TOO_DENSE
    return None if info.compress_type in _METHODS else LeftOut.METHOD


def _is_folder(info: ZipInfo) -> bool:
    return info.filename.endswith(("/", "\\")) and not info.file_size


def _path(info: ZipInfo) -> str:
    """With slashes, in the encoding it was written in: many programs write UTF-8 without saying so."""
    name = info.filename
    if not info.flag_bits & _UTF8_FLAG:
        with contextlib.suppress(UnicodeEncodeError, UnicodeDecodeError):
            name = name.encode("cp437").decode("utf-8")
    return "/".join(part for part in name.replace("\\", "/").split("/") if part != ".") or "unnamed"
