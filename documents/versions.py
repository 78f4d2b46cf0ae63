"""Versions of a document, and files whose bytes are here already. Knows rows and their keyed digests, no file and no request.

Each version is a row of its own; the first gives the series its id. One of a series is current: it is what lists, counts and
the search show. An earlier one keeps its pages, passages and file, and is put in use again without being embedded anew.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from documents.describing import searchable
from documents.models import Collection, Document, Page
from documents.series import locked, of_series
from search import indexing
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.ciphers import digest
from tenants.errors import Refused

DIFF_CHARACTERS = 200_000  # of each text
DIFF_LINES = 4_000  # of both together: comparing takes time that grows with their product
SHOWN_LINES = 2_000
FILLED_AT_ONCE = 500  # rows of a statement

State = Document.State


class AlreadyHere(Refused):
    """The same bytes are here already, as a document that the person may see."""

    def __init__(self, document: Document, *, same_name: bool) -> None:
        self.document = document
        said = (
            "It has the same name and the same content, so there is nothing to do." if same_name else "It was not stored again."
        )
        super().__init__(f"Already here as “{document.title}”. {said}")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a comparison. `kind`: "added", "removed", "same", or "gap" for a heading between stretches."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`why_not`: the sentence that says why there is none; empty where there is."""

    lines: list[Line]
    added: int = 0
    removed: int = 0
    is_cut: bool = False
    why_not: str = ""


# ---------------------------------------------------------------- equality, within a workspace


def name_digest(collection_id: UUID, name: str) -> bytes:
    """`name`: the reference where there is one, else the name of the file. Capital letters count, as in the
    folders files are imported from. Differs by collection.
    """
    return digest("dedupe", f"document:{collection_id}:{name}")


def same_bytes(content_digest: bytes, among: QuerySet[Document]) -> Document | None:
    """A document of these in use, or on its way there, with exactly these bytes."""
    usable = Q(is_current=True, state=State.READY) | Q(state__in=Document.UNFINISHED)
    return among.filter(usable, content_digest=content_digest, trashed_at=None).order_by("created_at", "id").first()


def fill_names(collection: Collection) -> None:
    """Digests of the names that rows lack which an earlier version of the code wrote. Under the collection's lock."""
    _fill(collection.documents.filter(name_digest=None))


def fill_every_name() -> int:
    """The same in all collections, so that no upload has it to do for a large one: a batch at a time, past those that
    somebody else works on. Returns how many.
    """
    done, last = 0, UUID(int=0)
    while True:
        with transaction.atomic():
            free = Document.objects.select_for_update(skip_locked=True, no_key=True)
            filled = _fill(free.filter(name_digest=None, pk__gt=last).order_by("pk")[:FILLED_AT_ONCE])
        if not filled:
            return done
        done, last = done + len(filled), filled[-1].pk


def _fill(lacking: QuerySet[Document]) -> list[Document]:
    documents = list(lacking.only("id", "collection_id", "file_name", "reference"))
    for document in documents:
        document.name_digest = name_digest(document.collection_id, document.reference or document.file_name)
    Document.objects.bulk_update(documents, ["name_digest"], batch_size=FILLED_AT_ONCE)
    return documents


# ---------------------------------------------------------------- the series


def follow(document: Document) -> Document | None:
    """Before its row is written: make it the next version of what has its name. Under the collection's lock.

    Returns what it follows: the version in use, which stays so until this one is ready, or the newest where none is.
    """
    named = Document.objects.filter(collection_id=document.collection_id, name_digest=document.name_digest, trashed_at=None)
    last = named.order_by("-is_current", "-created_at", "-version").first()
    if last is None:
        return None
    rows = locked(last.pk)
    last = next((row for row in rows if row.pk == last.pk and row.trashed_at is None), None)
    if last is None:  # erased or thrown away a moment ago
        return None
    document.series = last.series or last.pk
    document.version = max(row.version for row in rows) + 1
    document.is_current = not indexing.published(row.pk for row in rows if row.is_current)
    if document.is_current:
        Document.objects.filter(pk__in=[row.pk for row in rows]).update(is_current=False)
    return last


def inherited(last: Document) -> dict[UUID, str]:
    """The metadata with which the version after it begins."""
    return {value.field_id: value.value for value in last.values.all()}


def comes_into_use(document: Document, rows: Iterable[Document]) -> bool:
    """Whether a version that has just become ready is the one to be found: it was before it was read again, or none after it
    is ready.
    """
    return document.is_current or not any(row.version > document.version and row.state == State.READY for row in rows)


def put_in_use(document: Document, rows: Iterable[Document]) -> None:
    """Find this version and none of the others, which are locked, from the caller's commit on."""
    others = [row.pk for row in rows if row.pk != document.pk]
    if others:
        Document.objects.filter(pk__in=others).update(is_current=False)
    if not document.is_current:
        Document.objects.filter(pk=document.pk).update(is_current=True)
        document.is_current = True
    indexing.publish(document.pk, document.collection_id, searchable([document.pk])[document.pk])
    if others:  # after `publish`, which decrypts a whole document before it locks the index
        indexing.withdraw(others)


@transaction.atomic
def restore(document_id: UUID) -> Document:
    """Put an earlier version in use again: found at once, with the vectors it has. Raises Refused."""
    rows = locked(document_id)
    chosen = next((row for row in rows if row.pk == document_id), None)
    if chosen is None or chosen.trashed_at is not None or chosen.state != State.READY:
        raise Refused("Only a version that is ready can be put in use.")
    if chosen.is_current:
        raise Refused(f"Version {chosen.version} is in use already.")
    if any(row.is_current and row.is_unfinished for row in rows):  # it would take its place back when it is ready
        raise Refused("The version in use is being read again. Cancel that, or wait until it is ready, then choose again.")
    put_in_use(chosen, rows)
    record(Event.VERSION_RESTORED, document=str(chosen.pk), version=chosen.version)
    return chosen


def predecessor(document_id: UUID) -> UUID | None:
    """The version in use, or the last one ready before: whose vectors serve for passages that did not change."""
    series = Document.objects.filter(pk=document_id).values_list("series", flat=True).first()
    if series is None:
        return None
    ready = of_series(series).filter(state=State.READY).exclude(pk=document_id)
    return ready.order_by("-is_current", "-version").values_list("pk", flat=True).first()


# ---------------------------------------------------------------- what changed


def text_lines(document: Document, most: int) -> list[str] | None:
    """The text of all pages, by line; None when it has more characters than `most`."""
    read = Page._meta.get_field("text").reader()
    found: list[str] = []
    size = 0
    for number, text in Page.objects.filter(document=document).order_by("number").values_list("number", "text").iterator():
        page = read(Page.identity(document.pk, number), text)
        size += len(page)
        if size > most:
            return None
        found += page.splitlines()
    return found


def compare(old: Document, new: Document, most: int = DIFF_CHARACTERS) -> Comparison:
    """What changed in the text, by line, with three lines around each change. `most`: characters of each of them."""
    before, after = text_lines(old, most), text_lines(new, most)
    if before is None or after is None or len(before) + len(after) > DIFF_LINES:
        said = "These texts are too large to be compared here. Download both files and compare them on your computer."
        return Comparison([], why_not=said)
    kinds = {"+": "added", "-": "removed", " ": "same", "@": "gap"}
    unified = islice(difflib.unified_diff(before, after, lineterm="", n=3), 2, None)  # without the two lines of file names
    lines = [Line(kinds[line[0]], _place(line) if line[0] == "@" else line[1:]) for line in unified]
    added, removed = (sum(line.kind == kind for line in lines) for kind in ("added", "removed"))
    return Comparison(lines[:SHOWN_LINES], added, removed, len(lines) > SHOWN_LINES)


def _place(heading: str) -> str:
    """Of a stretch, in the newer text, from "@@ -1,3 +1,4 @@"."""
    first = heading.split()[2].partition(",")[0]
    return f"From line {int(first):,}"
