"""OLE containers ([MS-CFB]), in which Office before 2007 and Outlook keep streams. Every chain is followed once. Runs in the
sandbox.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from documents.reasons import Reason, Unreadable

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAX_DEPTH = 16  # of storages in storages; a message forwarded within a message takes two
_NOTHING = 0xFFFFFFFF
_LAST_SECTOR = 0xFFFFFFFA  # above it are marks: free, end of a chain, part of a table
_STORAGE, _STREAM, _ROOT = 1, 2, 5
_ENTRY = 128
_MINI = 64
_IN_HEADER = 109  # sectors of the table that the header names


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    kind: int
    left: int
    right: int
    child: int
    start: int
    size: int


class Container:
    """Streams by path ("storage/stream"), looked up without regard to case. Raises Unreadable when it is built wrongly."""

    def __init__(self, document: bytes) -> None:
        try:
            self._open(document)
        except (struct.error, IndexError):
            raise Unreadable(Reason.DAMAGED, "container") from None

    def has(self, path: str) -> bool:
        return path.lower() in self._streams

    def read(self, path: str, default: bytes | None = None) -> bytes:
        """A stream's bytes. Raises Unreadable when it is missing without a default, or its chain ends too early or never."""
        entry = self._streams.get(path.lower())
        if entry is None:
            if default is None:
                raise Unreadable(Reason.DAMAGED, "stream")
            return default
        if entry.size < self._cutoff:
            places = self._chain(entry.start, self._mini_table)
            content = b"".join(self._minis[place * _MINI : (place + 1) * _MINI] for place in places)
        else:
            content = self._joined(entry.start)
        if len(content) < entry.size:
            raise Unreadable(Reason.DAMAGED, "stream")
        return content[: entry.size]

    def children(self, storage: str) -> list[str]:
        """The names of the storages in a storage; "" is the whole container."""
        return self._storages.get(storage.lower(), [])

    def _open(self, document: bytes) -> None:
        if not document.startswith(SIGNATURE):
            raise Unreadable(Reason.DAMAGED, "signature")
        version, _, shift, mini_shift = struct.unpack_from("<HHHH", document, 26)
        if shift not in (9, 12) or mini_shift != 6:
            raise Unreadable(Reason.DAMAGED, "sectors")
        self._document, self._size = document, 1 << shift
        directory, _, self._cutoff, mini_start, _, more, _ = struct.unpack_from("<7I", document, 48)
        self._table: list[int] = []
        for sector in list(self._sectors_of_table(document, more)):
            self._table += struct.unpack(f"<{self._size // 4}I", self._sector(sector))
        entries = self._joined(directory)
        self._entries = [_entry(entries, place, version) for place in range(0, len(entries) - _ENTRY + 1, _ENTRY)]
        root = self._entries[0]
        self._minis = self._joined(root.start) if root.start < _LAST_SECTOR else b""
        minis = self._joined(mini_start) if mini_start < _LAST_SECTOR else b""
        self._mini_table = list(struct.unpack(f"<{len(minis) // 4}I", minis))
        self._streams: dict[str, _Entry] = {}
        self._storages: dict[str, list[str]] = {}
        self._list(root)

    def _sectors_of_table(self, document: bytes, more: int) -> Iterator[int]:
        yield from (one for one in struct.unpack_from(f"<{_IN_HEADER}I", document, 76) if one < _LAST_SECTOR)
        seen = set()
        while more < _LAST_SECTOR:
            if more in seen:
                raise Unreadable(Reason.DAMAGED, "loop")
            seen.add(more)
            *named, more = struct.unpack(f"<{self._size // 4}I", self._sector(more))
            yield from (one for one in named if one < _LAST_SECTOR)

    def _sector(self, number: int) -> bytes:
        start = (number + 1) * self._size
        content = self._document[start : start + self._size]
        if not content:
            raise Unreadable(Reason.DAMAGED, "sector")
        return content.ljust(self._size, b"\0")  # the last one is cut short by some programs

    def _chain(self, start: int, table: list[int]) -> Iterator[int]:
        place = start
        for _ in range(len(table) + 1):
            if place >= _LAST_SECTOR:
                return
            if place >= len(table):
                break
            yield place
            place = table[place]
        raise Unreadable(Reason.DAMAGED, "chain")

    def _joined(self, start: int) -> bytes:
        return b"".join(map(self._sector, self._chain(start, self._table)))

    def _list(self, root: _Entry) -> None:
        """Storages and streams; siblings hang on one another as a tree. What is named again was listed before."""
        seen: set[int] = set()
        waiting = [(root.child, "", 0)]
        while waiting:
            number, above, depth = waiting.pop()
            if number == _NOTHING or number in seen:
                continue
            if depth > MAX_DEPTH:
                raise Unreadable(Reason.TOO_COMPLEX, "depth")
            seen.add(number)
            entry = self._entries[number]
            path = f"{above}/{entry.name}" if above else entry.name
            waiting += [(entry.left, above, depth), (entry.right, above, depth)]
            if entry.kind == _STREAM:
                self._streams[path.lower()] = entry
            elif entry.kind == _STORAGE:
                self._storages.setdefault(above.lower(), []).append(entry.name)
                waiting.append((entry.child, path, depth + 1))


def _entry(entries: bytes, place: int, version: int) -> _Entry:
    length, kind, _, left, right, child = struct.unpack_from("<HBBIII", entries, place + 64)
    start, size = struct.unpack_from("<IQ", entries, place + 116)
    name = entries[place : place + min(max(length - 2, 0), 62)].decode("utf-16-le", "replace")
    return _Entry(name, kind, left, right, child, start, size & 0xFFFFFFFF if version == 3 else size)
