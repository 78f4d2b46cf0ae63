"""The one message a sandboxed child writes, after word of how far it is, and its reader, which believes none of it.

Length-prefixed text instead of JSON: what it costs to read is bounded by its size, whatever a hostile child writes.
"""

import re
import struct

from documents.extraction.pages import LABEL_CHARACTERS, Extraction, Origin, Page
from documents.extraction.pictures import COLOUR, GREY, SIDE, Picture
from documents.reasons import Reason, Unreadable

MAGIC = b"CLOISTER1"
MAX_PAGES = 20_000
MAX_BYTES = 64 << 20
MAX_WORDS = 1 << 20  # bytes of an answer that holds the words of one picture
_ORIGINS = tuple(Origin)  # written as their place in it
_FORMAT = re.compile(rb"[a-z]{2,12}")
_DETAIL = re.compile(rb"[A-Za-z_.]{0,80}")
_TOLD = struct.Struct(f"<{len(MAGIC) + 1}sII")
_UNCLEAN = re.compile("[\x00\ud800-\udfff]")
_LABEL_LIMIT = LABEL_CHARACTERS + 20  # "…, part 12345"


class Malformed(ValueError):
    """The child did not keep to the form: it is to be treated as crashed."""


def pack_pages(extraction: Extraction) -> bytes:
    pieces = [MAGIC, b"P", _packed(extraction.format), struct.pack("<I", len(extraction.pages))]
    for page in extraction.pages:
        pieces += [_packed(page.label), _packed(page.text), struct.pack("<I", _ORIGINS.index(page.origin))]
    return b"".join(pieces)


def pack_words(text: str) -> bytes:
    return b"".join([MAGIC, b"W", _packed(text)])


def pack_picture(picture: Picture) -> bytes:
    shape = struct.pack("<III", picture.width, picture.height, picture.channels)
    return b"".join([MAGIC, b"D", shape, struct.pack("<I", len(picture.pixels)), picture.pixels])


def pack_told(done: int, total: int) -> bytes:
    """Before the message: so many pages of so many are read."""
    return _TOLD.pack(MAGIC + b"N", done, total)


def pack_refusal(reason: Reason, detail: str = "", format_name: str = "") -> bytes:
    return b"".join([MAGIC, b"R", _packed(reason.value), _packed(detail), _packed(format_name)])


def take_told(answer: bytearray) -> tuple[int, int] | None:
    """Take word of how far the child is from the head of what has come so far; None when there is none, or not all of it."""
    if len(answer) < _TOLD.size or not answer.startswith(MAGIC + b"N"):
        return None
    _, done, total = _TOLD.unpack_from(answer)
    del answer[: _TOLD.size]
    total = min(total, MAX_PAGES)
    return min(done, total), total


def unpack_pages(answer: bytes) -> Extraction:
    """The extraction in an answer. Raises Unreadable with the child's reason, Malformed when the form is not kept."""
    reader = _opened(answer, b"P")
    format_name = reader.take()
    count = reader.number()
    if not _FORMAT.fullmatch(format_name) or not 0 < count <= MAX_PAGES:
        raise Malformed
    pages = tuple(
        Page(number, reader.text(_LABEL_LIMIT), reader.text(MAX_BYTES), reader.origin()) for number in range(1, count + 1)
    )
    reader.end()
    return Extraction(format_name.decode("ascii"), pages)


def unpack_words(answer: bytes) -> str:
    """The words of one picture. Raises as `unpack_pages` does."""
    reader = _opened(answer, b"W")
    text = reader.text(MAX_WORDS)
    reader.end()
    return text


def unpack_picture(answer: bytes) -> Picture:
    """The picture in an answer. Raises as `unpack_pages` does."""
    reader = _opened(answer, b"D")
    width, height, channels = reader.number(), reader.number(), reader.number()
    pixels = reader.take()
    reader.end()
    if not (0 < width <= SIDE and 0 < height <= SIDE and channels in (GREY, COLOUR)):
        raise Malformed
    if len(pixels) != width * height * channels:
        raise Malformed
    return Picture(width, height, channels, pixels)


def _opened(answer: bytes, kind: bytes) -> "_Reader":
    """An answer of this kind, to be read on. Raises Unreadable when it is a refusal, Malformed when it is neither."""
    reader = _Reader(answer, len(MAGIC) + 1)
    if answer.startswith(MAGIC + kind):
        return reader
    if not answer.startswith(MAGIC + b"R"):
        raise Malformed
    try:
        reason = Reason(reader.take().decode("ascii"))
    except ValueError:
        raise Malformed from None
    detail, format_name = reader.take(), reader.take()
    reader.end()
    if not _DETAIL.fullmatch(detail) or (format_name and not _FORMAT.fullmatch(format_name)):
        raise Malformed
    raise Unreadable(reason, detail.decode("ascii"), format_name.decode("ascii"))


def _packed(text: str) -> bytes:
    body = text.encode()
    return struct.pack("<I", len(body)) + body


class _Reader:
    def __init__(self, answer: bytes, position: int) -> None:
        self.answer = answer
        self.position = position

    def number(self) -> int:
        try:
            (value,) = struct.unpack_from("<I", self.answer, self.position)
        except struct.error:
            raise Malformed from None
        self.position += 4
        return int(value)

    def take(self) -> bytes:
        length = self.number()
        body = self.answer[self.position : self.position + length]
        if len(body) != length:
            raise Malformed
        self.position += length
        return body

    def origin(self) -> Origin:
        place = self.number()
        if place >= len(_ORIGINS):
            raise Malformed
        return _ORIGINS[place]

    def text(self, limit: int) -> str:
        try:
            text = self.take().decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed from None
        if len(text) > limit or _UNCLEAN.search(text):
            raise Malformed
        return text

    def end(self) -> None:
        if self.position != len(self.answer):
            raise Malformed
