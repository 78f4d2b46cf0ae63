"""Word and PowerPoint: OOXML in document order, headings as "# " lines, tables as "a | b", with equations and notes."""

import re
from collections.abc import Iterator

from lxml import etree

from documents.extraction.archives import Archive, local_name
from documents.extraction.formats.tables import row
from documents.extraction.pages import clean
from documents.reasons import Reason, Unreadable

_HEADING = re.compile(r"heading ?([1-9])", re.I)
_SIDE_PARTS = re.compile(r"word/(?:header\d*|footer\d*|footnotes|endnotes|comments)\.xml")
_PROPERTIES = frozenset({"pPr", "rPr", "tblPr", "trPr", "tcPr", "sectPr", "instrText", "delText", "del", "moveFrom", "bodyPr"})
_BREAKS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read_docx(document: bytes) -> str:
    archive = Archive(document)
    main = next(iter(archive.related("", "officeDocument")), "word/document.xml")
    levels = _heading_levels(archive)
    blocks = list(_blocks(archive.xml(main), levels))
    for name in sorted(filter(_SIDE_PARTS.fullmatch, archive.names)):
        blocks += _blocks(archive.xml(name), levels)
    for name in archive.related(main, "chart") + archive.related(main, "diagramData"):
        blocks.append(_drawn_text(archive.xml(name)))
    return "\n\n".join(filter(None, blocks))


def read_pptx(document: bytes) -> list[tuple[str, str]]:
    """(label, text) of every slide in the order of the show, with its notes."""
    archive = Archive(document)
    slides = _slides(archive)
    if not slides:
        raise Unreadable(Reason.EMPTY, "slides")
    found = []
    for number, name in enumerate(slides, 1):
        blocks = list(_shapes(archive.xml(name)))
        for extra in archive.related(name, "chart") + archive.related(name, "diagramData"):
            blocks.append(_drawn_text(archive.xml(extra)))
        for notes in archive.related(name, "notesSlide"):
            if text := "\n".join(_shapes(archive.xml(notes), notes=True)):
                blocks.append(f"Notes:\n{text}")
        found.append((f"Slide {number}", clean("\n\n".join(filter(None, blocks)))))
    return found


def _blocks(element: etree._Element, levels: dict[str, int]) -> Iterator[str]:
    """Paragraphs and tables below an element, in order; text boxes follow the paragraph they hang on."""
    for child in element:
        name = local_name(child)
        if name == "p":
            boxes: list[etree._Element] = []
            text = _inline(child, boxes).strip()
            if text:
                yield "#" * _level(child, levels) + (" " if _level(child, levels) else "") + text
            for box in boxes:
                yield from _blocks(box, levels)
        elif name == "tbl":
            yield "\n".join(filter(None, _rows(child, levels)))
        elif name == "AlternateContent":
            yield from _blocks(_chosen(child), levels)
        elif name not in _PROPERTIES:
            yield from _blocks(child, levels)


def _rows(table: etree._Element, levels: dict[str, int]) -> Iterator[str]:
    for line in _children(table, "tr"):
        yield row(" ".join(_blocks(cell, levels)) for cell in _children(line, "tc"))


def _children(element: etree._Element, wanted: str) -> Iterator[etree._Element]:
    """Direct children, and those inside content controls and tracked insertions."""
    for child in element:
        name = local_name(child)
        if name == wanted:
            yield child
        elif name in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _children(child, wanted)


def _inline(element: etree._Element, boxes: list[etree._Element]) -> str:
    """The words of a paragraph. Text boxes are put aside in `boxes`."""
    pieces = []
    for child in element:
        name = local_name(child)
        if name == "t":
            pieces.append(child.text or "")
        elif name in _BREAKS:
            pieces.append(_BREAKS[name])
        elif name == "txbxContent":
            boxes.append(child)
        elif name == "AlternateContent":
            pieces.append(_inline(_chosen(child), boxes))
        elif name == "f":  # an equation's fraction: numerator over denominator
            pieces.append("/".join(_inline(half, boxes) for half in child if local_name(half) in ("num", "den")))
        elif name and name not in _PROPERTIES:
            pieces.append(_inline(child, boxes))
    return "".join(pieces)


def _chosen(alternatives: etree._Element) -> etree._Element:
    """One of the same content told twice: the first choice, else the fallback."""
    for wanted in ("Choice", "Fallback"):
        for child in alternatives:
            if local_name(child) == wanted and len(child):
                return child
    return alternatives.makeelement("none")


def _heading_levels(archive: Archive) -> dict[str, int]:
    """Heading level by style id: ids are translated by Word, names and outline levels are not."""
    levels: dict[str, int] = {}
    if not archive.has("word/styles.xml"):
        return levels
    for style in archive.xml("word/styles.xml").iter("{*}style"):
        identifier, name = _value(style, "styleId"), style.find("{*}name")
        title = _value(name, "val") if name is not None else ""
        outline = style.find("{*}pPr/{*}outlineLvl")
        if heading := _HEADING.fullmatch(title):
            levels[identifier] = int(heading[1])
        elif title.lower() == "title":
            levels[identifier] = 1
        elif outline is not None and _value(outline, "val") in tuple("012345678"):
            levels[identifier] = int(_value(outline, "val")) + 1
    return levels


def _level(paragraph: etree._Element, levels: dict[str, int]) -> int:
    style = paragraph.find("{*}pPr/{*}pStyle")
    identifier = _value(style, "val") if style is not None else ""
    named = _HEADING.fullmatch(identifier)
    return min(6, levels.get(identifier, int(named[1]) if named else 0))


def _value(element: etree._Element, name: str) -> str:
    """An attribute whatever its namespace (strict and transitional differ)."""
    return next((value for key, value in element.attrib.items() if str(key).rpartition("}")[2] == name), "")


def _slides(archive: Archive) -> list[str]:
    main = next(iter(archive.related("", "officeDocument")), "ppt/presentation.xml")
    by_id = {identifier: target for identifier, kind, target in archive.relations(main) if kind == "slide"}
    listed = [
        by_id.get(next((value for key, value in one.attrib.items() if str(key).endswith("}id")), ""), "")
        for one in archive.xml(main).iter("{*}sldId")
    ]
    return [name for name in listed if name and archive.has(name)]


def _shapes(element: etree._Element, notes: bool = False) -> Iterator[str]:
    """The text of shapes and tables; titles as headings. Of a notes page only the notes, not the copied slide number."""
    for child in element:
        name = local_name(child)
        if name == "AlternateContent":
            yield from _shapes(_chosen(child), notes)
        elif name == "sp":
            place = child.find("{*}nvSpPr/{*}nvPr/{*}ph")
            kind = place.get("type", "") if place is not None else ""
            if kind in ("sldNum", "sldImg", "dt") or (notes and kind in ("hdr", "ftr")):
                continue
            text = "\n".join(filter(None, (_inline(one, []).strip() for one in child.iter("{*}p"))))
            yield f"# {' '.join(text.split())}" if kind in ("title", "ctrTitle") and text else text
        elif name == "tbl":
            for line in child.iterchildren("{*}tr"):
                yield row(" ".join(_inline(one, []) for one in cell.iter("{*}p")) for cell in line.iterchildren("{*}tc"))
        elif name and name not in _PROPERTIES:
            yield from _shapes(child, notes)


def _drawn_text(part: etree._Element) -> str:
    """Titles and names in a chart or diagram; its numbers are left out, since they mean nothing without the drawing."""
    words = [one.text or "" for one in part.iter("{*}t")]
    words += [value.text or "" for cache in part.iter("{*}strCache") for value in cache.iter("{*}v")]
    return "\n".join(dict.fromkeys(filter(None, (word.strip() for word in words))))
