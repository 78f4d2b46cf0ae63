"""PowerPoint before 2007 (.ppt): the slides of the last saved show in their order, titles as "# " lines, with their notes.

Names and numbers are those of [MS-PPT]. Of a table, each cell is a line of its own: the file knows it as a group of shapes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from documents.extraction.containers import Container
from documents.extraction.pages import clean
from documents.reasons import Reason, Unreadable

_ENCRYPTED = 0xF3D1C4DF  # headerToken
_USER_EDIT, _PERSIST, _DOCUMENT = 0x0FF5, 0x1772, 0x03E8
_SLIDE, _SLIDE_ATOM, _NOTES = 0x03EE, 0x03EF, 0x03F0
_LIST, _PERSIST_ATOM = 0x0FF0, 0x03F3
_SLIDES, _NOTES_LIST = 0, 2  # instances of a list
_HEADER, _CHARS, _BYTES, _REFERENCE = 0x0F9F, 0x0FA0, 0x0FA8, 0x0F9E
_TITLES, _NOTES_TEXT = (0, 6), 2  # kinds of text
_MAX_DEPTH = 24
_LINES = str.maketrans({"\r": "\n", "\x0b": "\n"})


@dataclass(frozen=True, slots=True)
class _Record:
    kind: int
    instance: int
    is_container: bool
    start: int
    end: int


Words = tuple[int, str]  # the kind of text, and the text


def read_ppt(document: bytes) -> list[tuple[str, str]]:
    """(label, text) of every slide."""
    container = Container(document)
    stream, user = container.read("PowerPoint Document"), container.read("Current User")
    try:
        token, edit = struct.unpack_from("<II", user, 12)
        if token == _ENCRYPTED or container.has("EncryptedSummary"):
            raise Unreadable(Reason.ENCRYPTED, "powerpoint")
        slides = list(_slides(stream, *_persistent(stream, edit)))
    except (struct.error, IndexError, KeyError):
        raise Unreadable(Reason.DAMAGED, "powerpoint") from None
    if not slides:
        raise Unreadable(Reason.EMPTY, "slides")
    return [(f"Slide {number}", clean(text)) for number, text in enumerate(slides, 1)]


def _persistent(stream: bytes, edit: int) -> tuple[dict[int, int], int]:
    """Where each object is that the last edits left, by its number; and the number of the document."""
    places: dict[int, int] = {}
    document = None
    seen = set()
    while edit:
        if edit in seen:
            raise Unreadable(Reason.DAMAGED, "loop")
        seen.add(edit)
        if _record(stream, edit, len(stream)).kind != _USER_EDIT:
            raise Unreadable(Reason.DAMAGED, "edit")
        earlier, directory, number = struct.unpack_from("<III", stream, edit + 16)
        document = number if document is None else document
        listed = _record(stream, directory, len(stream))
        if listed.kind != _PERSIST:
            raise Unreadable(Reason.DAMAGED, "directory")
        at = listed.start
        while at + 4 <= listed.end:
            (head,) = struct.unpack_from("<I", stream, at)
            first, count = head & 0xFFFFF, head >> 20
            for offset, place in enumerate(struct.unpack_from(f"<{count}I", stream, at + 4)):
                places.setdefault(first + offset, place)  # the newest edit comes first
            at += 4 + 4 * count
        edit = earlier
    if document is None:
        raise Unreadable(Reason.DAMAGED, "edit")
    return places, document


def _slides(stream: bytes, places: dict[int, int], document: int) -> Iterator[str]:
    whole = _record(stream, places[document], len(stream))
    if whole.kind != _DOCUMENT:
        raise Unreadable(Reason.DAMAGED, "document")
    lists = {one.instance: one for one in _inside(stream, whole) if one.kind == _LIST}
    notes = {identity: places[number] for number, identity, _ in _listed(stream, lists.get(_NOTES_LIST)) if number in places}
    for number, _, outline in _listed(stream, lists.get(_SLIDES)):
        slide = _record(stream, places[number], len(stream))
        if slide.kind != _SLIDE:
            raise Unreadable(Reason.DAMAGED, "slide")
        used: set[int] = set()
        shapes = list(_words(stream, slide, outline, used))
        rest = [words for place, words in enumerate(outline) if place not in used]
        blocks = [_block(*words) for words in rest + shapes]
        spoken = "\n".join(text for text in _notes(stream, slide, notes) if text.strip())
        yield "\n\n".join(filter(None, [*blocks, f"Notes:\n{spoken}" if spoken else ""]))


def _notes(stream: bytes, slide: _Record, places: dict[int, int]) -> list[str]:
    atom = next((one for one in _inside(stream, slide) if one.kind == _SLIDE_ATOM), None)
    (identity,) = struct.unpack_from("<I", stream, atom.start + 16) if atom else (0,)
    if identity not in places:
        return []
    page = _record(stream, places[identity], len(stream))
    if page.kind != _NOTES:
        return []
    return [text for kind, text in _words(stream, page, [], set()) if kind == _NOTES_TEXT]


def _block(kind: int, text: str) -> str:
    text = text.strip()
    return f"# {' '.join(text.split())}" if kind in _TITLES and text else text


def _listed(stream: bytes, record: _Record | None) -> Iterator[tuple[int, int, list[Words]]]:
    """(number, identity, texts of the outline) of each slide or page of notes."""
    found: tuple[int, int, list[Words]] | None = None
    kind = 0
    for one in _inside(stream, record) if record else ():
        if one.kind == _PERSIST_ATOM:
            if found:
                yield found
            number, identity = struct.unpack_from("<I8xI", stream, one.start)
            found = (number, identity, [])
        elif one.kind == _HEADER:
            (kind,) = struct.unpack_from("<I", stream, one.start)
            if found:
                found[2].append((kind, ""))
        elif one.kind in (_CHARS, _BYTES) and found and found[2]:
            found[2][-1] = (kind, _text(stream, one))
    if found:
        yield found


def _words(stream: bytes, record: _Record, outline: list[Words], used: set[int], depth: int = 0) -> Iterator[Words]:
    """The texts of shapes, in the order they are drawn; those that stand in the outline are noted in `used`."""
    if depth > _MAX_DEPTH:
        raise Unreadable(Reason.TOO_COMPLEX, "depth")
    kind = 4  # other text
    for one in _inside(stream, record):
        if one.kind == _HEADER:
            (kind,) = struct.unpack_from("<I", stream, one.start)
        elif one.kind in (_CHARS, _BYTES):
            yield kind, _text(stream, one)
        elif one.kind == _REFERENCE:
            (place,) = struct.unpack_from("<I", stream, one.start)
            if place < len(outline) and place not in used:
                used.add(place)
                yield outline[place]
        elif one.is_container and one.kind != _LIST:
            yield from _words(stream, one, outline, used, depth + 1)


def _text(stream: bytes, record: _Record) -> str:
    body = stream[record.start : record.end]
    return body.decode("utf-16-le" if record.kind == _CHARS else "latin-1", "replace").translate(_LINES)


def _inside(stream: bytes, record: _Record) -> Iterator[_Record]:
    at = record.start
    while at + 8 <= record.end:
        one = _record(stream, at, record.end)
        yield one
        at = one.end


def _record(stream: bytes, at: int, end: int) -> _Record:
    """The record at a place; it ends with what holds it, whatever it says."""
    head, kind, length = struct.unpack_from("<HHI", stream, at)
    is_container = head & 0xF == 0xF or kind == 0xF00D  # a text box holds records without saying so
    return _Record(kind, head >> 4, is_container, at + 8, min(at + 8 + length, end))
