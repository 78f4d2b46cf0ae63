"""PDF through PDFium: one page of text per page, in the order the page draws it, and a picture of a page."""

import math
import re

import pypdfium2
import pypdfium2.raw as pdfium

from documents.extraction import progress, recognition
from documents.extraction.answers import MAX_PAGES
from documents.extraction.pages import Origin, clean
from documents.extraction.pictures import COLOUR, GREY, SIDE, Picture
from documents.reasons import Reason, Unreadable

_SOFT_HYPHEN = re.compile("\x02(?:\r?\n)?")  # PDFium's mark for a word broken at the end of a line
_MOST_SCALE = 4.0  # pixels for a point (1/72 inch): small pages are not blown up beyond 288 dpi
_WHITE = (255, 255, 255, 255)
_READING_SCALE = 300 / 72  # pixels for a point at the 300 dpi that text recognition wants
_READING_SIDE = 4000  # pixels of the longer side; A4 has 3508
_STAMP = 100  # characters on a scanned page that a scanner or a court may have added in letters


def read_pdf(document: bytes, password: str = "") -> list[tuple[str, str, Origin]]:
    """(label, text, origin) of every page."""
    pdf = _opened(document, password)
    if len(pdf) > MAX_PAGES:
        raise Unreadable(Reason.TOO_COMPLEX, "pages")
    pages: list[tuple[str, str, Origin]] = []
    scanned = 0
    for index in range(len(pdf)):
        pages.append((f"Page {index + 1}", *_page(pdf, index)))
        scanned += pages[-1][2] is Origin.SCANNED  # which are not done before their pictures are recognised
        progress.tell(len(pages) - scanned, len(pdf))
    if all(origin is Origin.FAILED for _, _, origin in pages):
        raise Unreadable(Reason.DAMAGED, "pages")
    return pages


def draw_page(document: bytes, number: int) -> Picture:
    """One page as PDFium draws it on white, with its annotations; form fields show what is stored of them."""
    page = _page_of(document, number)
    width, height = _pixels(page.get_size(), SIDE, _MOST_SCALE)
    pixels = _drawn(page, width, height, pdfium.FPDFBitmap_BGR, COLOUR)
    red = pixels[0::COLOUR]
    if red == pixels[1::COLOUR] == pixels[2::COLOUR]:
        return Picture(width, height, GREY, red)
    return Picture(width, height, COLOUR, pixels)


def recognise_page(document: bytes, number: int, password: str = "") -> str:
    """The words of a page as they are seen, whatever its text layer says."""
    page = _page_of(document, number, password)
    points = page.get_size()
    width, height = _pixels(points, _READING_SIDE, _READING_SCALE)
    pixels = _drawn(page, width, height, pdfium.FPDFBitmap_Gray, GREY)
    return recognition.words(pixels, width, height, round(72 * max(width, height) / max(points)))


def _page(pdf: pypdfium2.PdfDocument, index: int) -> tuple[str, Origin]:
    try:
        page = pdf[index]
        layer = page.get_textpage()
        text = clean(_SOFT_HYPHEN.sub("", layer.get_text_bounded()))
        layer.close()
        scanned = len(text) <= _STAMP and _is_scanned(page, text)
        page.close()
    except pypdfium2.PdfiumError:
        return "", Origin.FAILED
    return text, Origin.SCANNED if scanned else Origin.EXTRACTED


def _is_scanned(page: pypdfium2.PdfPage, text: str) -> bool:
    """Without text: anything is drawn on it, for letters can be drawn as curves. With a little: a picture covers half of it."""
    if not text or text.isspace():
        return bool(pdfium.FPDFPage_CountObjects(page) > 0)
    width, height = page.get_size()
    for image in page.get_objects([pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = image.get_bounds()
        if (right - left) * (top - bottom) > width * height / 2:
            return True
    return False


def _page_of(document: bytes, number: int, password: str = "") -> pypdfium2.PdfPage:
    pdf = _opened(document, password)
    if not 0 < number <= len(pdf):
        raise Unreadable(Reason.DAMAGED, "page")
    return pdf[number - 1]


def _drawn(page: pypdfium2.PdfPage, width: int, height: int, form: int, channels: int) -> bytes:
    """The pixels of a page on white, row by row."""
    in_colour = channels == COLOUR  # grey has no order of bytes, and nothing is drawn when it is asked to be reversed
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, form, rev_byteorder=in_colour)
    bitmap.fill_rect(_WHITE, 0, 0, width, height)
    flags = pdfium.FPDF_ANNOT | (pdfium.FPDF_REVERSE_BYTE_ORDER if in_colour else 0)
    pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, flags)
    rows, stride, wide = bytes(bitmap.buffer), bitmap.stride, width * channels
    return b"".join(rows[start : start + wide] for start in range(0, height * stride, stride))


def _pixels(points: tuple[float, float], side: int, most: float) -> tuple[int, int]:
    """The size of the picture of a page of so many points; a page may claim any size, and it is drawn no larger for it."""
    width, height = points
    if not (width > 0 and height > 0 and math.isfinite(width + height)):
        raise Unreadable(Reason.DAMAGED, "size")
    scale = min(side / max(width, height), most)
    return min(max(1, round(width * scale)), side), min(max(1, round(height * scale)), side)


def _opened(document: bytes, password: str = "") -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(document, password=password or None)
    except pypdfium2.PdfiumError as error:
        locked = error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
        raise Unreadable(Reason.ENCRYPTED if locked else Reason.DAMAGED, "PdfiumError") from None
