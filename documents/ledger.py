"""The states of a document: which follow which, and the only functions that change them.

Every upload ends ready, failed with a reason, or cancelled. The row is locked while its state changes, so whoever
works on a document notices before its next commit that it was cancelled or deleted. Knows no file and no model.
"""

from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from documents.describing import searchable
from documents.extraction.pages import Extraction, Origin
from documents.models import Document, Page
from documents.reasons import SENTENCES, Reason
from search import indexing
from tenants.errors import Refused
from tenants.schemas import is_still_open

State = Document.State

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.EXTRACTING, State.EMBEDDING, State.FAILED, State.CANCELLED}),
    State.EXTRACTING: frozenset({State.EXTRACTING, State.EMBEDDING, State.FAILED, State.CANCELLED}),
    State.EMBEDDING: frozenset({State.EMBEDDING, State.READY, State.FAILED, State.CANCELLED}),
    State.READY: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}
FINAL = frozenset({State.READY, State.FAILED, State.CANCELLED})
MAX_ATTEMPTS = 3  # starts without progress; a document that kills its worker as often is not tried again by itself
_PAGES_AT_ONCE = 500  # rows of an INSERT; PostgreSQL takes at most 65,535 parameters


class Stopped(Exception):
    """The document was cancelled or deleted while it was worked on, or its workspace was closed: end quietly."""


@transaction.atomic
def begin(document_id: UUID) -> Document | None:
    """Take up a document, from where it was left. None when there is nothing to do: it is final or gone."""
    document = _locked(document_id)
    if document is None or State(document.state) in FINAL:
        return None
    if document.attempts >= MAX_ATTEMPTS:
        _end(document, State.FAILED, Reason.INTERRUPTED)
        return None
    document.attempts += 1
    document.started_at = document.started_at or timezone.now()
    _enter(document, State.EMBEDDING if document.pages else State.EXTRACTING, "attempts", "started_at")
    return document


@transaction.atomic
def extracted(document_id: UUID, extraction: Extraction) -> None:
    """Commit the text: all pages or none. Raises Stopped."""
    document = _working(document_id, State.EXTRACTING)
    _keep(document, extraction)
    document.attempts = 1
    _enter(document, State.EMBEDDING, "pages", "format", "detail", "attempts")


@transaction.atomic
def unlocked(document_id: UUID, extraction: Extraction) -> None:
    """Commit the text that a password opened, and queue the document: the work goes on from there. Raises Refused."""
    document = _locked(document_id)
    if document is None or document.trashed_at is not None or not document.is_locked:
        raise Refused("This document does not ask for a password any more.")
    _keep(document, extraction)
    document.reason, document.attempts = "", 0
    document.started_at = document.finished_at = None
    fields = ("pages", "format", "detail", "reason", "attempts", "started_at", "finished_at")
    _enter(document, State.QUEUED, *fields)


def _keep(document: Document, extraction: Extraction) -> None:
    """Write the pages, and on the document what they are; the document is still to be saved."""
    Page.objects.bulk_create(
        (
            Page(
                id=Page.identity(document.id, page.number),
                document_id=document.id,
                number=page.number,
                label=page.label,
                text=page.text,
                origin=page.origin,
            )
            for page in extraction.pages
        ),
        batch_size=_PAGES_AT_ONCE,
    )
    document.pages = len(extraction.pages)
    document.format = extraction.format
    document.detail = _unread(extraction)


@transaction.atomic
def planned(document_id: UUID, *, total: int, done: int) -> None:
    """How many passages there are to embed, and how many already are. Raises Stopped."""
    _advance(document_id, chunks_total=total, chunks_done=done)


def advance(document_id: UUID, *, done: int) -> None:
    """Record a batch; to be called first in the batch's transaction, which then holds the row. Raises Stopped."""
    _advance(document_id, chunks_done=F("chunks_done") + done, attempts=1)


def still_working(document_id: UUID) -> None:
    """Raises Stopped when the document was cancelled, deleted or ended by somebody else, or the workspace is closed."""
    _still_open()
    if not Document.objects.filter(pk=document_id, state__in=Document.UNFINISHED).exists():
        raise Stopped


@transaction.atomic
def finish(document_id: UUID) -> None:
    """Ready: from here on it is found. Raises Stopped."""
    document = _working(document_id, State.EMBEDDING)
    indexing.publish(document_id, document.collection_id, searchable([document_id])[document_id])
    _end(document, State.READY)


@transaction.atomic
def fail(document_id: UUID, reason: Reason, detail: str = "", format_name: str = "") -> None:
    """End with a reason, unless somebody ended it before. `format_name`: what the file was found to be, where that is known."""
    document = _locked(document_id)
    if document is not None and State(document.state) not in FINAL:
        document.detail = detail
        document.format = format_name or document.format
        _end(document, State.FAILED, reason, "detail", "format")


@transaction.atomic
def cancel(document_id: UUID) -> bool:
    """Stop and forget what was done so far; the file is kept. False when it had ended before."""
    document = _locked(document_id)
    if document is None or State(document.state) in FINAL:
        return False
    indexing.remove([document_id])
    Page.objects.filter(document_id=document_id).delete()
    document.pages = document.chunks_total = document.chunks_done = 0
    _end(document, State.CANCELLED, None, "pages", "chunks_total", "chunks_done")
    return True


@transaction.atomic
def retry(document_id: UUID) -> None:
    """Queue again what failed or was cancelled; it continues with the stage that failed. Raises Refused."""
    document = _locked(document_id)
    if document is None or document.trashed_at is not None or not document.can_be_retried:
        raise Refused("Only a document that failed for a passing reason, or was cancelled, can be retried.")
    document.reason, document.detail, document.attempts = "", "", 0
    document.started_at = document.finished_at = None
    _enter(document, State.QUEUED, "reason", "detail", "attempts", "started_at", "finished_at")


def _locked(document_id: UUID) -> Document | None:
    return Document.objects.select_for_update().filter(pk=document_id).first()


def _still_open() -> None:
    """Work stops at its next step when the workspace is suspended or erased; unfinished, it is taken up again after."""
    if not is_still_open():
        raise Stopped


def _working(document_id: UUID, state: State) -> Document:
    _still_open()
    document = _locked(document_id)
    if document is None or document.state != state:
        raise Stopped
    return document


def _advance(document_id: UUID, **values: object) -> None:
    _still_open()
    if not Document.objects.filter(pk=document_id, state=State.EMBEDDING).update(**values):
        raise Stopped


def _enter(document: Document, state: State, *fields: str) -> None:
    if state not in TRANSITIONS[State(document.state)]:
        raise ValueError(f"a document does not go from {document.state} to {state}")
    document.state = state
    document.save(update_fields=["state", *fields])


def _end(document: Document, state: State, reason: Reason | None = None, *fields: str) -> None:
    document.reason = reason.value if reason else ""
    document.finished_at = timezone.now()
    _enter(document, state, "reason", "finished_at", *fields)


def _unread(extraction: Extraction) -> str:
    failed = extraction.numbers(Origin.FAILED)
    if not failed:
        return ""
    numbers = ", ".join(map(str, failed[:20])) + (" and more" if len(failed) > 20 else "")
    said = f"{len(failed)} of {len(extraction.pages)} pages could not be read and are not searchable: {numbers}."
    return f"{said} {SENTENCES[extraction.why][0]}" if extraction.why is Reason.NO_OCR else said
