"""What a sandboxed child says while it unpacks an archive: each file as it comes, in frames; and their reader, which believes
none of it.

A frame says how long it is before it begins, so that nothing in a file can be taken for the head of the next frame; how many
files there are and how large they are is counted again here.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from documents.extraction import answers
from documents.extraction.answers import Malformed
from documents.reasons import Reason, Unreadable

ZIP = "zip"  # the name of the format
MAX_FILES = 10_000  # of an archive, those of archives within it among them
MAX_FILE_BYTES = 500_000_000  # what a document may have to be read
MAX_TOTAL_BYTES = 2_000_000_000
PIECE_BYTES = 1 << 18
PATH_BYTES = 4096
_HEAD = struct.Struct("<cI")
_ENTRY = struct.Struct("<IIQB")  # number, of how many, bytes, why it is left out
_FILE, _PIECE, _END, _REFUSED, _DONE = b"F", b"B", b"E", b"R", b"Z"
_TAKEN = 0
_MOST = {_FILE: _ENTRY.size + PATH_BYTES, _PIECE: PIECE_BYTES, _END: 1, _REFUSED: 1024, _DONE: 0}


class LeftOut(StrEnum):
    """Why a file of an archive is none of the documents that come out of it."""

    SYSTEM = "it is hidden, or added by a system"
    EMPTY = "it is empty"
    ENCRYPTED = "it is protected with a password"
    TOO_LARGE = "it is larger than 500 MB"
    REFUSED = "it is larger than this installation accepts"
    TOO_DENSE = "it is compressed so much that it seems built to do harm"
    TOO_MUCH = "what comes before it is all that an archive may hold: 10,000 files, 2 GB"
    LINK = "it is a link to another file"
    OUTSIDE = "its path leads out of the archive"
    NAME = "its path is too long"
    REPLACED = "a later file of the archive has the same path"
    SAME_NAME = "another file of the archive has the same path, but for signs that names cannot have"
    METHOD = "it is compressed in a way that Cloister does not read"
    DAMAGED = "it is damaged"
    NESTED = "archives within archives are opened two levels deep"
    OUTDATED = "a newer version of the archive has been opened"
    HELD = "it is an archive, or a document built like one, and larger than 200 MB"
    DELETED = "it was deleted after it had come out of the archive"
    UNSAFE = "it is an archive built in a way that cannot be opened safely"


_WHY = tuple(LeftOut)  # written as their place in it, from 1


class Cut(Exception):
    """The child ended before it had said everything: how it ended tells why."""


class Declined(Exception):
    """The child gives up, and says why: it has ended well."""

    def __init__(self, why: Unreadable) -> None:
        super().__init__(why.reason.value)
        self.why = why


class Spoilt(Exception):
    """What came of a file is not what the archive says it holds."""

    def __init__(self, why: LeftOut) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: its number, from 1, of how many so far. `pieces` raises Spoilt, and what `Reader.each` does."""

    number: int
    total: int
    path: str
    size: int
    left_out: LeftOut | None
    pieces: Iterator[bytes]


def folder_of(name: str) -> str:
    """Where the files of an archive of that name go: its name without the extension, as programs that unpack do it."""
    stem, dot, extension = name.rpartition(".")
    return stem if dot and stem.rpartition("/")[2] and len(extension) <= 10 else f"{name} files"


# ---------------------------------------------------------------- the child's side


def pack_file(number: int, total: int, path: str, size: int, left_out: LeftOut | None = None) -> bytes:
    """A file: its pieces follow, unless it is left out."""
    return _frame(_FILE, _ENTRY.pack(number, total, size, _code(left_out)) + path.encode("utf-8", "replace")[:PATH_BYTES])


def pack_piece(piece: bytes) -> bytes:
    return _frame(_PIECE, piece)


def pack_end(spoilt: LeftOut | None = None) -> bytes:
    return _frame(_END, bytes([_code(spoilt)]))


def pack_refusal(reason: Reason, detail: str = "", format_name: str = "") -> bytes:
    return _frame(_REFUSED, answers.pack_refusal(reason, detail, format_name))


def pack_done() -> bytes:
    return _frame(_DONE, b"")


def _frame(kind: bytes, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body)) + body


def _code(why: LeftOut | None) -> int:
    return _TAKEN if why is None else _WHY.index(why) + 1


# ---------------------------------------------------------------- the caller's side


class Reader:
    """`read` gives what has come, in whatever pieces, and nothing once the child is gone."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read, self._come = read, bytearray()
        self._numbers = self._bytes = 0

    def each(self, take: Callable[[Member], object]) -> None:
        """Give every file to `take`, which need not look at its pieces.

        Raises Declined, Malformed and Cut.
        """
        while True:
            kind, body = self._next()
            if kind == _DONE:
                return
            if kind != _FILE:
                self._refused(kind, body)
            member = self._member(body)
            take(member)
            with suppress(Spoilt):
                for _ in member.pieces:
                    pass

    def _member(self, body: bytes) -> Member:
        if len(body) < _ENTRY.size:
            raise Malformed
        number, total, size, code = _ENTRY.unpack_from(body)
        path = body[_ENTRY.size :].decode("utf-8", "replace")
        self._numbers += 1
        if not (number == self._numbers <= total <= MAX_FILES + 1 and path and code <= len(_WHY)):
            raise Malformed
        if code:
            return Member(number, total, path, size, _WHY[code - 1], iter(()))
        self._bytes += size
        if not 0 < size <= MAX_FILE_BYTES or self._bytes > MAX_TOTAL_BYTES:
            raise Malformed
        return Member(number, total, path, size, None, self._pieces(size))

    def _pieces(self, size: int) -> Iterator[bytes]:
        left = size
        while True:
            kind, body = self._next()
            if kind == _END:
                break
            if kind != _PIECE:
                self._refused(kind, body)
            if not 0 < len(body) <= left:
                raise Malformed
            left -= len(body)
            yield body
        if len(body) != 1 or body[0] > len(_WHY):
            raise Malformed
        if body[0]:
            raise Spoilt(_WHY[body[0] - 1])
        if left:
            raise Malformed

    def _next(self) -> tuple[bytes, bytes]:
        kind, length = _HEAD.unpack(self._taken(_HEAD.size))
        if length > _MOST.get(kind, -1):
            raise Malformed
        return kind, self._taken(length)

    def _taken(self, length: int) -> bytes:
        while len(self._come) < length:
            piece = self._read()
            if not piece:
                raise Cut
            self._come += piece
        taken = bytes(self._come[:length])
        del self._come[:length]
        return taken

    def _refused(self, kind: bytes, body: bytes) -> NoReturn:
        if kind == _REFUSED:
            try:
                answers.unpack_pages(body)
            except Unreadable as why:
                raise Declined(why) from None
        raise Malformed
