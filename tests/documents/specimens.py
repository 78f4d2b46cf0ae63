"""One file of every format the product reads, all of the same words: what becomes of them can then be compared.

Each has several passages, but for pictures of a single page, and says `MARKER`, which is in no other file.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

from documents.reasons import Reason
from tests.documents import files

MARKER = "zarquonberry"
_FILLER = "The account of the harbour goes on at length, with quays, cranes and ships that come and go, and says nothing new. "
SECTIONS = [f"Section {number} of {MARKER} tells of pier {number}. {_FILLER * 8}".strip() for number in (1, 2, 3)]
SEEN = [f"Page {number} of {MARKER}\nships and quays" for number in (1, 2, 3)]  # recognised in pictures
TEXT = "\n\n".join(SECTIONS)
PLAIN, BODY, SUBJECT = bytes(2), 0x1000, 0x0037  # a style of Word; properties of an Outlook message


@dataclass(frozen=True)
class Specimen:
    """A file, of formats that are built alike, and how it ends: `reason` is empty where it becomes ready."""

    name: str
    content: bytes
    family: str
    reason: str = ""


def _wrapped(text: str, width: int = 90) -> str:
    lines = [""]
    for word in text.split(" "):
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [lines[-1], word]
    return "\n".join(lines)


def _paragraphs(tag: str) -> str:
    return "".join(f"<{tag}>{escape(section)}</{tag}>" for section in SECTIONS)


def _slides() -> str:
    return "".join(
        f'<draw:page draw:name="s{number}"><draw:frame><draw:text-box><text:p>{escape(section)}</text:p></draw:text-box>'
        "</draw:frame></draw:page>"
        for number, section in enumerate(SECTIONS)
    )


def _tables() -> str:
    return "".join(
        f'<table:table table:name="Sheet {number}"><table:table-row><table:table-cell office:value-type="string">'
        f"<text:p>{escape(section)}</text:p></table:table-cell></table:table-row></table:table>"
        for number, section in enumerate(SECTIONS)
    )


def _tiff() -> bytes:
    first, *rest = map(files.picture, SEEN)
    target = io.BytesIO()
    first.save(target, "TIFF", save_all=True, append_images=rest, compression="tiff_deflate")
    return target.getvalue()


def _archived() -> dict[str, str | bytes]:
    """Its own text has several passages, too; of the files within, one is in an archive of its own, and one left out."""
    letters = {
        f"letters/{MARKER}, the letter of pier {number} about its ships, quays and cranes.txt": TEXT for number in range(5)
    }
    return {**letters, "more.zip": files.zipped({"number.md": f"# More of {MARKER}\n\n{TEXT}"}), f"{'nothing ' * 20}.txt": ""}


def _picture(form: str) -> Callable[[], bytes]:
    return lambda: files.saved(files.picture(SEEN[0]).convert("RGB"), form)


_BUILDERS: dict[str, dict[str, Callable[[], bytes]]] = {
    "text": {
        "txt": TEXT.encode,
        "md": lambda: "\n\n".join(f"# Pier {n}\n\n{section}" for n, section in enumerate(SECTIONS)).encode(),
        "csv": lambda: ("number,words\n" + "".join(f'{n},"{section}"\n' for n, section in enumerate(SECTIONS))).encode(),
        "html": lambda: f"<!doctype html><html><body>{_paragraphs('p')}</body></html>".encode(),
        "rtf": lambda: files.rtf(TEXT),
        "eml": lambda: files.eml("Piers", TEXT),
    },
    "zip": {
        "docx": lambda: files.docx("".join(map(files.paragraph, SECTIONS))),
        "pptx": lambda: files.pptx([files.shape(section) for section in SECTIONS]),
        "xlsx": lambda: files.xlsx({f"Sheet {n}": [[section]] for n, section in enumerate(SECTIONS)}),
        "epub": lambda: files.epub([f"<html><body><p>{escape(section)}</p></body></html>" for section in SECTIONS]),
        "odt": lambda: files.opendocument("text", _paragraphs("text:p")),
        "odp": lambda: files.opendocument("presentation", _slides()),
        "ods": lambda: files.opendocument("spreadsheet", _tables()),
    },
    "container": {
        "doc": lambda: files.doc([(f"{section[:200]} {part}\r", PLAIN) for section in SECTIONS for part in range(8)]),
        "ppt": lambda: files.ppt([(f"Pier {n}", section, "") for n, section in enumerate(SECTIONS)]),
        "xls": lambda: files.xls({f"Sheet {n}": [[section]] for n, section in enumerate(SECTIONS)}),
        "msg": lambda: files.compound(files.msg({SUBJECT: "Piers", BODY: TEXT})),
    },
    "archive": {"zip": lambda: files.zipped(_archived())},
    "pdf": {"pdf": lambda: files.pdf([_wrapped(section) for section in SECTIONS])},
    "pictures": {
        "scan.pdf": lambda: files.scanned([files.picture(words) for words in SEEN]),
        "tiff": _tiff,
        **{form: _picture(form.upper()) for form in ("png", "jpeg", "gif", "webp", "bmp")},
    },
}
_REFUSED: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "locked.pdf": (lambda: files.pdf([_wrapped(section) for section in SECTIONS], encrypt=True), Reason.ENCRYPTED),
    "cut.docx": (lambda: files.docx("".join(map(files.paragraph, SECTIONS)))[:600], Reason.DAMAGED),
}


def specimens() -> dict[str, Specimen]:
    """By format. Those of the family "refused" cannot be read."""
    found = {
        form: Specimen(f"piers.{form}", build(), family) for family, forms in _BUILDERS.items() for form, build in forms.items()
    }
    refused = {form: Specimen(f"piers.{form}", build(), "refused", reason.value) for form, (build, reason) in _REFUSED.items()}
    return found | refused
