"""PDF through PDFium: one page of text per page, in the order the page draws it, and a picture of a page. No OCR."""

import math
import re

import pypdfium2
import pypdfium2.raw as pdfium

from documents.extraction.answers import MAX_PAGES
from documents.extraction.pages import clean
from documents.extraction.pictures import COLOUR, GREY, SIDE, Picture
from documents.reasons import Reason, Unreadable

_SOFT_HYPHEN = re.compile("\x02(?:\r?\n)?")  # PDFium's mark for a word broken at the end of a line
_MOST_SCALE = 4.0  # pixels for a point (1/72 inch): small pages are not blown up beyond 288 dpi
_WHITE = (255, 255, 255, 255)


def read_pdf(document: bytes) -> tuple[list[tuple[str, str]], tuple[int, ...]]:
    """(label, text) of every page, and the numbers of the pages that could not be read."""
    pdf = _opened(document)
    if len(pdf) > MAX_PAGES:
        raise Unreadable(Reason.TOO_COMPLEX, "pages")
    pages, unread = [], []
    for index in range(len(pdf)):
        text = ""
        try:
            page = pdf[index]
            layer = page.get_textpage()
            text = clean(_SOFT_HYPHEN.sub("", layer.get_text_bounded()))
            layer.close()
            page.close()
        except pypdfium2.PdfiumError:
            unread.append(index + 1)
        pages.append((f"Page {index + 1}", text))
    if not pages or len(unread) == len(pages):
        raise Unreadable(Reason.DAMAGED, "pages")
    return pages, tuple(unread)


def draw_page(document: bytes, number: int) -> Picture:
    """One page as PDFium draws it on white, with its annotations; form fields show what is stored of them."""
    pdf = _opened(document)
    if not 0 < number <= len(pdf):
        raise Unreadable(Reason.DAMAGED, "page")
    page = pdf[number - 1]
    width, height = _pixels(*page.get_size())
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True)
    bitmap.fill_rect(_WHITE, 0, 0, width, height)
    flags = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER
    pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, flags)
    rows, stride, wide = bytes(bitmap.buffer), bitmap.stride, width * COLOUR
    pixels = b"".join(rows[start : start + wide] for start in range(0, height * stride, stride))
    red = pixels[0::COLOUR]
    if red == pixels[1::COLOUR] == pixels[2::COLOUR]:
        return Picture(width, height, GREY, red)
    return Picture(width, height, COLOUR, pixels)


def _pixels(width: float, height: float) -> tuple[int, int]:
    """The size of the picture of a page of so many points; a page may claim any size, and it is drawn no larger for it."""
    if not (width > 0 and height > 0 and math.isfinite(width + height)):
        raise Unreadable(Reason.DAMAGED, "size")
    scale = min(SIDE / max(width, height), _MOST_SCALE)
    return min(max(1, round(width * scale)), SIDE), min(max(1, round(height * scale)), SIDE)


def _opened(document: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(document)
    except pypdfium2.PdfiumError as error:
        locked = error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
        raise Unreadable(Reason.ENCRYPTED if locked else Reason.DAMAGED, "PdfiumError") from None
