"""OpenDocument text and presentations: in document order, headings as "# " lines, tables as "a | b", with notes.

Element names are those of OpenDocument 1.3, part 3 (OASIS, 2021).
"""

from collections.abc import Iterator

from lxml import etree

from documents.extraction.archives import Archive, local_name
from documents.extraction.formats.tables import row
from documents.extraction.pages import clean
from documents.reasons import Reason, Unreadable

_SPACES = 100  # that one element may stand for
_COLUMNS = 1000  # of one row that repeated cells may fill
_LEFT_OUT = frozenset({"tracked-changes", "forms", "sequence-decls", "variable-decls", "annotation-end", "tab-stop"})
_ASIDE = frozenset({"note", "annotation", "frame", "custom-shape", "rect"})  # what hangs on a place in a paragraph


def read_odt(document: bytes) -> str:
    return "\n\n".join(_blocks(_body(document, "text")))


def read_odp(document: bytes) -> list[tuple[str, str]]:
    """(label, text) of every slide in the order of the show, with its notes."""
    slides = _body(document, "presentation").findall("{*}page")
    if not slides:
        raise Unreadable(Reason.EMPTY, "slides")
    return [(f"Slide {number}", clean("\n\n".join(_slide(slide)))) for number, slide in enumerate(slides, 1)]


def check(archive: Archive) -> None:
    """Raises Unreadable when parts of the file are locked with a password."""
    if b"encryption-data" in archive.read("META-INF/manifest.xml", b""):
        raise Unreadable(Reason.ENCRYPTED, "opendocument")


def _body(document: bytes, kind: str) -> etree._Element:
    archive = Archive(document)
    check(archive)
    found = archive.xml("content.xml").find(f"{{*}}body/{{*}}{kind}")
    if found is None:
        raise Unreadable(Reason.DAMAGED, "body")
    return found


def _slide(slide: etree._Element) -> Iterator[str]:
    notes = [one for one in slide if local_name(one) == "notes"]
    for child in slide:
        if child not in notes:
            yield from _shape(child)
    for one in notes:
        if text := "\n".join(_blocks(one)):
            yield f"Notes:\n{text}"


def _shape(shape: etree._Element) -> Iterator[str]:
    blocks = list(_blocks([shape]))
    if _value(shape, "class") == "title" and blocks:
        yield f"# {' '.join(' '.join(blocks).split())}"
    elif blocks:
        yield "\n".join(blocks)


def _blocks(elements: etree._Element | list[etree._Element]) -> Iterator[str]:
    """Paragraphs, headings and tables, in order; notes and text boxes follow the paragraph they hang on."""
    for child in elements:
        name = local_name(child)
        if name in ("p", "h"):
            aside: list[etree._Element] = []
            if text := _inline(child, aside).strip():
                yield f"{'#' * _level(child)} {text}" if name == "h" else text
            for one in aside:
                yield from _blocks(one)
        elif name == "table":
            yield from filter(None, ["\n".join(filter(None, _rows(child)))])
        elif name and name not in _LEFT_OUT:
            yield from _blocks(child)


def _rows(table: etree._Element) -> Iterator[str]:
    """Rows, also those inside groups and headers."""
    for child in table:
        name = local_name(child)
        if name == "table-row":
            yield row(_cells(child))
        elif name in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _rows(child)


def _cells(line: etree._Element) -> Iterator[str]:
    """A repeated cell keeps the places of those after it; the one that fills a row to its end is empty."""
    left = _COLUMNS
    for cell in line:
        if local_name(cell) in ("table-cell", "covered-table-cell"):
            text = " ".join(_blocks(cell))
            for _ in range(min(left, _number(cell, "number-columns-repeated"))):
                left -= 1
                yield text


def _inline(element: etree._Element, aside: list[etree._Element]) -> str:
    """The words of a paragraph. What hangs on it is put aside."""
    pieces = [element.text or ""]
    for child in element:
        name = local_name(child)
        if name == "s":
            pieces.append(" " * min(_SPACES, _number(child, "c")))
        elif name in ("tab", "line-break"):
            pieces.append("\t" if name == "tab" else "\n")
        elif name in _ASIDE:
            aside.append(child)
        elif name and name not in _LEFT_OUT:
            pieces.append(_inline(child, aside))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _level(heading: etree._Element) -> int:
    return min(6, _number(heading, "outline-level"))


def _number(element: etree._Element, name: str) -> int:
    """An attribute that counts; 1 when it is missing or makes no sense."""
    text = _value(element, name)
    return int(text) if text.isdecimal() and 0 < len(text) < 7 and int(text) else 1


def _value(element: etree._Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if str(key).rpartition("}")[2] == name), "")
