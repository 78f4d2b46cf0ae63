"""The formats Cloister reads: detection first, then one reader per format.

The sandbox asks for `read`, `draw`, `recognise` and `unpack`.
"""

from collections.abc import Callable, Iterator, Sequence

from documents.extraction.answers import MAX_PAGES
from documents.extraction.detection import detect
from documents.extraction.formats.epub import read_epub
from documents.extraction.formats.images import draw_image, read_image, recognise_image
from documents.extraction.formats.mail import read_mail
from documents.extraction.formats.office import read_docx, read_pptx
from documents.extraction.formats.opendocument import read_odp, read_odt
from documents.extraction.formats.outlook import read_msg
from documents.extraction.formats.pdf import draw_page, read_pdf, recognise_page
from documents.extraction.formats.plain import read_csv, read_markdown, read_plain
from documents.extraction.formats.powerpoint import read_ppt
from documents.extraction.formats.rtf import read_rtf
from documents.extraction.formats.spreadsheets import read_ods, read_xls, read_xlsx
from documents.extraction.formats.web import read_html
from documents.extraction.formats.word import read_doc
from documents.extraction.formats.zipped import read_zip, unpack
from documents.extraction.members import ZIP
from documents.extraction.pages import Extraction, Origin, Page, clean, flowing, sheets
from documents.extraction.pictures import IMAGES, Picture
from documents.reasons import Reason, Unreadable

Laid = Sequence[tuple[str, str]]  # (label, text) of every page

# Text without pages is cut into parts; the others come with pages of their own. PDF and pictures are read below.
READERS: dict[str, Callable[[bytes], Laid]] = {
    "pptx": read_pptx,
    "xlsx": lambda document: sheets(read_xlsx(document)),
    "xls": lambda document: sheets(read_xls(document)),
    "ods": lambda document: sheets(read_ods(document)),
    "odp": read_odp,
    "odt": lambda document: flowing([read_odt(document)]),
    "docx": lambda document: flowing([read_docx(document)]),
    "doc": lambda document: flowing([read_doc(document)]),
    "ppt": read_ppt,
    "msg": lambda document: flowing([read_msg(document)]),
    "html": lambda document: flowing([read_html(document)]),
    "epub": lambda document: flowing(read_epub(document)),
    "eml": lambda document: flowing([read_mail(document)]),
    "rtf": lambda document: flowing([read_rtf(document)]),
    "csv": lambda document: flowing([read_csv(document)]),
    "markdown": lambda document: flowing([read_markdown(document)]),
    "text": lambda document: flowing([read_plain(document)]),
    ZIP: lambda document: flowing([read_zip(document)]),
}

FORMATS = frozenset({*READERS, *IMAGES, "pdf"})
__all__ = ["FORMATS", "READERS", "draw", "read", "recognise", "unpack"]


def read(document: bytes, extension: str, password: str = "") -> Extraction:
    """The pages of a document. Raises Unreadable with its reason; anything else a parser raises counts as damaged."""
    name = detect(document, extension)
    try:
        pages = tuple(Page(number, *page) for number, page in enumerate(_pages(name, document, password), 1))
    except Unreadable as unreadable:
        unreadable.format = name
        raise
    if len(pages) > MAX_PAGES:
        raise Unreadable(Reason.TOO_COMPLEX, "pages", name)
    read = Extraction(name, pages)
    if not read.has_text and not read.numbers(Origin.SCANNED):
        raise Unreadable(Reason.NO_TEXT if name == "pdf" else Reason.EMPTY, "", name)
    return read


def draw(document: bytes, page: int) -> Picture:
    """A page as a picture. Only PDF and pictures say how a page looks; for others raises Unreadable (unsupported)."""
    name = detect(document, "")
    if name == "pdf":
        return draw_page(document, page)
    if name in IMAGES:
        return draw_image(document, page)
    raise Unreadable(Reason.UNSUPPORTED, "picture")


def recognise(document: bytes, page: int, password: str = "") -> str:
    """The words in the picture of a page, of those formats that `draw` draws."""
    if detect(document, "") == "pdf":
        return clean(recognise_page(document, page, password))
    return clean(recognise_image(document, page))


def _pages(name: str, document: bytes, password: str) -> Iterator[tuple[str, str, Origin]]:
    if name == "pdf":
        pages = read_pdf(document, password)
    elif name in IMAGES:
        pages = read_image(document)
    else:
        pages = [(label, text, Origin.EXTRACTED) for label, text in READERS[name](document)]
    for label, text, origin in pages:
        blank = origin is Origin.EXTRACTED and (not text or text.isspace())
        yield label, text, Origin.EMPTY if blank else origin
