"""The text of a document in pages: cleaned of what is not text, cut where a format has no pages. Knows no format."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from documents.reasons import Reason

PART_CHARACTERS = 8000
LABEL_CHARACTERS = 100

# C0 and C1 controls except tab and newline, and the non-characters that mark a wrong byte order.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BLANK_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")
_HEADING = re.compile(r"\n(?=#{1,6} )")


class Origin(StrEnum):
    """How a page came to its text, or why it has none: every page has exactly one."""

    EXTRACTED = "extracted"  # the file says it in letters
    RECOGNISED = "recognised"  # read from a picture, and so with mistakes
    EMPTY = "empty"
    FAILED = "failed"  # not searchable
    SCANNED = "scanned"  # a picture whose words are still to be recognised: inside the sandbox's answer only


@dataclass(frozen=True, slots=True)
class Page:
    """One page, slide, sheet or part: numbered from 1, with the label a person reads ("Page 3"; empty for a single part)."""

    number: int
    label: str
    text: str
    origin: Origin = Origin.EXTRACTED


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read: the format found in the bytes, and the pages; `why` the last picture failed, when one did."""

    format: str
    pages: tuple[Page, ...]
    why: Reason | None = None

    def numbers(self, origin: Origin) -> list[int]:
        """The numbers of the pages of that origin."""
        return [page.number for page in self.pages if page.origin is origin]

    @property
    def has_text(self) -> bool:
        return any(page.text and not page.text.isspace() for page in self.pages)


def clean(text: str) -> str:
    """The text without NUL, control characters and lone surrogates, its lines ended by newlines alone.

    Letters with their accents are one character (NFC), so that words are the same however they were typed.
    """
    if _SURROGATES.search(text):
        # UTF-16 written as two escapes (RTF, JSON) becomes the character; a half without its other half goes.
        text = _SURROGATES.sub("", text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"))
    text = unicodedata.normalize("NFC", _CONTROLS.sub("", _LINE_ENDS.sub("\n", text)))
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def parts(text: str, limit: int = PART_CHARACTERS) -> list[str]:
    """Cut at a heading, else a paragraph, line or word, into parts of at most `limit` characters; blank parts are dropped."""
    found = []
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= limit else _border(text, start, start + limit)
        if part := text[start:end].strip("\n"):
            found.append(part)
        start = end
    return [part for part in found if not part.isspace()]


def _border(text: str, start: int, limit: int) -> int:
    floor = start + (limit - start) // 2
    if headings := [match.end() for match in _HEADING.finditer(text, start + (limit - start) // 4, limit)]:
        return headings[-1]
    for separator in ("\n\n", "\n", " "):
        if (place := text.rfind(separator, floor, limit)) > 0:
            return place + len(separator)
    return limit


def flowing(chapters: Iterable[str]) -> list[tuple[str, str]]:
    """(label, text) of the parts of text without pages; each chapter begins a part. A single part has no label."""
    texts = [part for chapter in chapters for part in parts(clean(chapter))]
    if len(texts) == 1:
        return [("", texts[0])]
    return [(f"Part {number}", text) for number, text in enumerate(texts, 1)]


def sheets(named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(label, text) of named pages; a long one continues as "…, part 2"."""
    found = []
    for name, text in named:
        label = clean(name).replace("\n", " ").strip()[:LABEL_CHARACTERS]
        pieces = parts(clean(text)) or [""]
        found += [(label if n == 1 else f"{label}, part {n}", piece) for n, piece in enumerate(pieces, 1)]
    return found
