"""Word before 2007 (.doc): text by the piece table, headings as "# " lines, tables as "a | b".

Names are those of [MS-DOC]. Word 6 and 95, which have no such tables at these places, give their text alone.
"""

import bisect
import struct
from collections.abc import Iterator

from documents.extraction.answers import MAX_BYTES
from documents.extraction.containers import Container
from documents.extraction.formats.tables import row
from documents.reasons import Reason, Unreadable

_WORD, _WORD_97 = 0xA5EC, 0x00C1  # wIdent; the first nFib with tables
_MADE_ON = 0x12  # envr: 1 for a Macintosh
_ENCRYPTED, _SECOND_TABLE = 0x0100, 0x0200
_FIRST_PAIR, _CLX, _PAPX = 154, 33, 13  # fibRgFcLcb, and the places in it of pieces and of paragraph properties
_COMPRESSED = 0x40000000  # of a piece: one byte a letter, in Windows' Western code page
_PAGE = 512  # of properties (FKP)
_IN_TABLE, _ROW_END = 0x2416, 0x2417  # sprmPFInTable, sprmPFTtp
_OPERANDS = (1, 1, 2, 4, 2, 2, 0, 3)  # bytes by the upper three bits of a sprm; 0: the next byte says
_LONG_OPERANDS = (0xD608, 0xC615)
_LETTERS = {0x1E: "-", 0x1F: "", 0x0B: "\n", 0x0C: "\n", 0x01: "", 0x02: "", 0x05: "", 0x08: "", 0xA0: " "}


def read_doc(document: bytes) -> str:
    container = Container(document)
    main = container.read("WordDocument")
    try:
        ident, version, flags = struct.unpack_from("<HH6xH", main)
        if ident != _WORD and version >= _WORD_97:
            raise Unreadable(Reason.DAMAGED, "word")
        if flags & _ENCRYPTED:
            raise Unreadable(Reason.ENCRYPTED, "word")
        if version < _WORD_97:
            first, end = struct.unpack_from("<II", main, 0x18)
            letters = main[first:end].decode("mac_roman" if main[_MADE_ON] == 1 else "cp1252", "replace")
            return "\n".join(_lines(_Text([(first, 1, letters)]), _Properties()))
        table = container.read("1Table" if flags & _SECOND_TABLE else "0Table")
        text = _Text(list(_pieces(main, _pair(main, table, _CLX))))
        return "\n".join(_lines(text, _Properties(main, _pair(main, table, _PAPX))))
    except (struct.error, IndexError):
        raise Unreadable(Reason.DAMAGED, "word") from None


class _Text:
    """Letters with the place in the stream where each paragraph ends: (place, bytes a letter takes, letters) by piece."""

    def __init__(self, pieces: list[tuple[int, int, str]]) -> None:
        self.pieces = pieces

    def paragraphs(self) -> Iterator[tuple[str, str, int]]:
        """(letters, the mark at their end, its place)."""
        begun: list[str] = []
        for place, width, letters in self.pieces:
            start = 0
            for at, letter in enumerate(letters):
                if letter in "\r\x07\x0c":
                    yield "".join([*begun, letters[start:at]]), letter, place + at * width
                    begun, start = [], at + 1
            begun.append(letters[start:])
        yield "".join(begun), "\r", -1


class _Properties:
    """Of paragraphs: (level of heading, in a table, ends a row), by their place in the stream."""

    def __init__(self, main: bytes = b"", bins: bytes = b"") -> None:
        count = max(0, len(bins) - 4) // 8
        runs: list[tuple[int, tuple[int, bool, bool]]] = []
        for (number,) in struct.iter_unpack("<I", bins[4 * (count + 1) : 8 * count + 4]):
            page = main[(number & 0x3FFFFF) * _PAGE :][:_PAGE]
            if len(page) == _PAGE:
                runs += _runs(page)
        runs.sort(key=lambda run: run[0])
        self._starts = [start for start, _ in runs]
        self._found = [found for _, found in runs]

    def at(self, place: int) -> tuple[int, bool, bool]:
        number = bisect.bisect_right(self._starts, place) - 1
        return self._found[number] if number >= 0 and place >= 0 else (0, False, False)

    def __bool__(self) -> bool:
        return bool(self._starts)


def _lines(text: _Text, properties: _Properties) -> Iterator[str]:
    cells: list[str] = []
    cell: list[str] = []
    field = _Fields()
    for letters, mark, place in text.paragraphs():
        words = field.shown(letters).translate(_LETTERS)
        level, in_table, ends_row = properties.at(place)
        if mark == "\x07" and not properties:  # without properties a row ends with a cell that has nothing in it
            ends_row = bool(cells) and not words and not cell
        if mark == "\x07" and ends_row:
            yield row(cells)
            cells = []
        elif mark == "\x07":
            cells.append(" ".join([*cell, words]))
            cell = []
        elif in_table:
            cell.append(words)
        elif words.strip():
            yield f"\n{'#' * min(level, 6)} {words.strip()}\n" if level else words
        else:
            yield ""
    yield row([*cells, " ".join(cell)])


class _Fields:
    """Leaves out the instructions of fields, which may be nested and may span paragraphs; keeps their results."""

    def __init__(self) -> None:
        self._open: list[bool] = []  # whether an open field still gives its instruction

    def shown(self, letters: str) -> str:
        if not self._open and "\x13" not in letters:
            return letters
        kept = []
        for letter in letters:
            if letter == "\x13":
                self._open.append(True)
            elif letter == "\x14" and self._open:
                self._open[-1] = False
            elif letter == "\x15" and self._open:
                self._open.pop()
            elif not (self._open and self._open[-1]):
                kept.append(letter)
        return "".join(kept)


def _pair(main: bytes, table: bytes, number: int) -> bytes:
    place, length = struct.unpack_from("<II", main, _FIRST_PAIR + 8 * number)
    return table[place : place + length]


def _pieces(main: bytes, clx: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while clx[at] == 1:  # Prc: properties of characters
        at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
    if clx[at] != 2:  # Pcdt
        raise Unreadable(Reason.DAMAGED, "pieces")
    (length,) = struct.unpack_from("<I", clx, at + 1)
    plc = clx[at + 5 : at + 5 + length]
    count = (len(plc) - 4) // 12
    ends = struct.unpack_from(f"<{count + 1}I", plc)
    if ends[-1] > MAX_BYTES:  # pieces may show the same letters again and again
        raise Unreadable(Reason.TOO_LARGE, "pieces")
    for number in range(count):
        (place,) = struct.unpack_from("<I", plc, 4 * (count + 1) + 8 * number + 2)
        letters = ends[number + 1] - ends[number]
        if letters <= 0:
            raise Unreadable(Reason.DAMAGED, "pieces")
        if place & _COMPRESSED:
            start = (place & ~_COMPRESSED) // 2
            yield start, 1, main[start : start + letters].decode("cp1252", "replace")
        else:
            yield place, 2, main[place : place + 2 * letters].decode("utf-16-le", "replace")


def _runs(page: bytes) -> Iterator[tuple[int, tuple[int, bool, bool]]]:
    count = page[-1]
    starts = struct.unpack_from(f"<{count + 1}I", page)
    for number in range(count):
        at = 2 * page[4 * (count + 1) + 13 * number]
        if not at:
            yield starts[number], (0, False, False)
            continue
        words = page[at]
        body = page[at + 1 : at + 2 * words] if words else page[at + 2 : at + 2 + 2 * page[at + 1]]
        style = int.from_bytes(body[:2], "little")
        set_here = dict(_sprms(body[2:]))
        level = style if 1 <= style <= 9 else 0  # these styles have these numbers in every document
        yield starts[number], (level, bool(set_here.get(_IN_TABLE)), bool(set_here.get(_ROW_END)))


def _sprms(body: bytes) -> Iterator[tuple[int, int]]:
    """(property, the first byte of its value)."""
    at = 0
    while at + 2 < len(body):
        (sprm,) = struct.unpack_from("<H", body, at)
        yield sprm, body[at + 2]
        if sprm in _LONG_OPERANDS:
            at += 3 + int.from_bytes(body[at + 2 : at + 4], "little")
        else:
            at += 2 + (_OPERANDS[sprm >> 13] or 1 + body[at + 2])
