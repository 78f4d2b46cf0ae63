"""A page of a document as a person reads it: its text, with the passages that search knows standing out by their number."""

import bisect
from collections import Counter
from dataclasses import dataclass, field

from documents.extraction.pages import Origin
from documents.models import Document, Page
from search.models import Chunk

WORDS = {
    Origin.EXTRACTED: "with text",
    Origin.RECOGNISED: "recognised in pictures",
    Origin.EMPTY: "empty",
    Origin.FAILED: "could not be read",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of text; one of a passage carries the passage's id and number (from 1, within the document)."""

    text: str
    passage: str = ""
    number: int = 0
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class PageView:
    """`origins`: of all pages of the document, how many came to their text in which way."""

    number: int
    label: str
    origin: Origin
    origins: list[tuple[str, int]]
    stretches: list[Stretch]
    previous: tuple[int, str] | None = None
    following: tuple[int, str] | None = None
    choices: list[tuple[int, str]] = field(default_factory=list)


def read_page(document: Document, number: int, passage: str = "") -> PageView | None:
    """One page, the nearest there is; None while the document has no text. Three queries, whatever its length."""
    read = Page._meta.get_field("label").reader()
    rows = Page.objects.filter(document=document).order_by("number").values_list("number", "label", "origin")
    # opened under the id the place should have: another document's page put here raises Tampered
    choices = [(found, read(Page.identity(document.id, found), label) or f"Page {found}") for found, label, _ in rows]
    if not choices:
        return None
    counted = Counter(origin for _, _, origin in rows)
    place = min(bisect.bisect_left(choices, (number, "")), len(choices) - 1)
    page = Page.objects.get(pk=Page.identity(document.id, choices[place][0]))
    chunks = Chunk.objects.filter(document_id=document.id, page=page.number).order_by("sequence")
    passages = [
        (str(pk), sequence + 1, start, end) for pk, sequence, start, end in chunks.values_list("id", "sequence", "start", "end")
    ]
    return PageView(
        number=page.number,
        label=page.label,
        origin=Origin(page.origin),
        origins=[(words, counted[origin]) for origin, words in WORDS.items() if counted[origin]],
        stretches=_stretches(page.text, passages, passage),
        previous=choices[place - 1] if place else None,
        following=choices[place + 1] if place + 1 < len(choices) else None,
        choices=choices,
    )


def _stretches(text: str, passages: list[tuple[str, int, int, int]], chosen: str) -> list[Stretch]:
    stretches = []
    position = 0
    for pk, number, start, end in passages:
        if start > position:
            stretches.append(Stretch(text[position:start]))
        stretches.append(Stretch(text[start:end], pk, number, pk == chosen))
        position = end
    if position < len(text):
        stretches.append(Stretch(text[position:]))
    return stretches
