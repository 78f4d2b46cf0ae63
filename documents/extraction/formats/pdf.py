"""PDF through PDFium: one page of text per page, in the order the page draws it. No rendering, no OCR."""

import re

import pypdfium2
import pypdfium2.raw as pdfium

from documents.extraction.answers import MAX_PAGES
from documents.extraction.pages import clean
from documents.reasons import Reason, Unreadable

_SOFT_HYPHEN = re.compile("\x02(?:\r?\n)?")  # PDFium's mark for a word broken at the end of a line


def read_pdf(document: bytes) -> tuple[list[tuple[str, str]], tuple[int, ...]]:
    """(label, text) of every page, and the numbers of the pages that could not be read."""
    try:
        pdf = pypdfium2.PdfDocument(document)
    except pypdfium2.PdfiumError as error:
        locked = error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
        raise Unreadable(Reason.ENCRYPTED if locked else Reason.DAMAGED, "PdfiumError") from None
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
