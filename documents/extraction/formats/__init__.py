"""The formats Cloister reads: detection first, then one reader per format. The sandbox asks for `read` and `draw`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from documents.extraction.answers import MAX_PAGES
from documents.extraction.detection import detect
from documents.extraction.formats.epub import read_epub
from documents.extraction.formats.mail import read_mail
from documents.extraction.formats.office import read_docx, read_pptx
from documents.extraction.formats.opendocument import read_odp, read_odt
from documents.extraction.formats.pdf import draw_page, read_pdf
from documents.extraction.formats.plain import read_csv, read_markdown, read_plain
from documents.extraction.formats.rtf import read_rtf
from documents.extraction.formats.spreadsheets import read_ods, read_xls, read_xlsx
from documents.extraction.formats.web import read_html
from documents.extraction.pages import Extraction, Page, flowing, sheets
from documents.extraction.pictures import Picture
from documents.reasons import Reason, Unreadable


@dataclass(frozen=True)
class Laid:
    """Pages a reader found by itself (PDF, slides, sheets): (label, text), and the numbers of those it could not read."""

    pages: Sequence[tuple[str, str]]
    unread: tuple[int, ...] = ()


def _pdf(document: bytes) -> Laid:
    return Laid(*read_pdf(document))


# Text without pages is cut into parts; the others come with pages of their own.
READERS: dict[str, Callable[[bytes], Laid]] = {
    "pdf": _pdf,
    "pptx": lambda document: Laid(read_pptx(document)),
    "xlsx": lambda document: Laid(sheets(read_xlsx(document))),
    "xls": lambda document: Laid(sheets(read_xls(document))),
    "ods": lambda document: Laid(sheets(read_ods(document))),
    "odp": lambda document: Laid(read_odp(document)),
    "odt": lambda document: Laid(flowing([read_odt(document)])),
    "docx": lambda document: Laid(flowing([read_docx(document)])),
    "html": lambda document: Laid(flowing([read_html(document)])),
    "epub": lambda document: Laid(flowing(read_epub(document))),
    "eml": lambda document: Laid(flowing([read_mail(document)])),
    "rtf": lambda document: Laid(flowing([read_rtf(document)])),
    "csv": lambda document: Laid(flowing([read_csv(document)])),
    "markdown": lambda document: Laid(flowing([read_markdown(document)])),
    "text": lambda document: Laid(flowing([read_plain(document)])),
}


def read(document: bytes, extension: str) -> Extraction:
    """The pages of a document. Raises Unreadable with its reason; anything else a parser raises counts as damaged."""
    name = detect(document, extension)
    laid = READERS[name](document)
    if len(laid.pages) > MAX_PAGES:
        raise Unreadable(Reason.TOO_COMPLEX, "pages")
    if not any(text and not text.isspace() for _, text in laid.pages):
        raise Unreadable(Reason.NO_TEXT if name == "pdf" else Reason.EMPTY)
    pages = tuple(Page(number, label, text) for number, (label, text) in enumerate(laid.pages, 1))
    return Extraction(name, pages, laid.unread)


def draw(document: bytes, page: int) -> Picture:
    """A page as a picture. Only PDF says how a page looks; for any other format raises Unreadable (unsupported)."""
    if detect(document, "") != "pdf":
        raise Unreadable(Reason.UNSUPPORTED, "picture")
    return draw_page(document, page)
