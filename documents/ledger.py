"""The states of a document: which follow which, and the only functions that change them.

Every upload ends ready, failed with a reason, or cancelled; what can heal is queued again a few times before it fails. One
that is ready can be read again, and is found as it was until its new text is read. The
row is locked while its state changes, so whoever works on a document notices before its next commit that it was cancelled
or deleted. Each run of a stage is written down in the transaction that begins or ends it. Knows no file and no model.
"""

import os
import socket
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from documents import series, versions
from documents.extraction.pages import Extraction, Origin
from documents.models import Document, Page, Stage
from documents.reasons import HEALS, RETRYABLE, SENTENCES, WAITS, Reason
from search import indexing
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.schemas import is_still_open

State = Document.State

TRANSITIONS: dict[State, frozenset[State]] = {
    # Ready without having been embedded: when it was read again, which failed or was cancelled.
    State.QUEUED: frozenset({State.QUEUED, State.EXTRACTING, State.EMBEDDING, State.READY, State.FAILED, State.CANCELLED}),
    State.EXTRACTING: frozenset({State.QUEUED, State.EXTRACTING, State.EMBEDDING, State.READY, State.FAILED, State.CANCELLED}),
    State.EMBEDDING: frozenset({State.QUEUED, State.EMBEDDING, State.READY, State.FAILED, State.CANCELLED}),
    State.READY: frozenset({State.QUEUED}),  # when it is read again
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}
FINAL = frozenset({State.READY, State.FAILED, State.CANCELLED})
MAX_ATTEMPTS = 3  # starts without progress; a document that kills its worker as often has to wait (reasons.WAITS)
_COLUMNS = {
    Origin.EXTRACTED: "pages_extracted",
    Origin.RECOGNISED: "pages_ocr",
    Origin.EMPTY: "pages_empty",
    Origin.FAILED: "pages_failed",
}
_PAGES_AT_ONCE = 500  # rows of an INSERT; PostgreSQL takes at most 65,535 parameters


class Stopped(Exception):
    """The document was cancelled or deleted while it was worked on, or its workspace was closed: end quietly."""


@transaction.atomic
def begin(document_id: UUID) -> Document | None:
    """Take up a document, from where it was left. None when there is nothing to do: it is final or gone, or waits."""
    document = _locked(document_id)
    if document is None or State(document.state) in FINAL:
        return None
    if document.retry_at is not None and document.retry_at > timezone.now():
        return None
    _close([document_id], Stage.Outcome.INTERRUPTED)
    if document.attempts >= MAX_ATTEMPTS:
        _fail(document, Reason.INTERRUPTED)
        return None
    document.attempts += 1
    document.retry_at = None
    document.started_at = document.started_at or timezone.now()
    document.pages_read = document.pages_total = 0
    kept = ("attempts", "retry_at", "started_at", "pages_read", "pages_total")
    is_read = document.pages > 0 and not _is_found(document)
    _enter(document, State.EMBEDDING if is_read else State.EXTRACTING, *kept)
    _open(document_id, Stage.Name.EMBED if is_read else Stage.Name.EXTRACT)
    return document


def reading(document_id: UUID, *, done: int, total: int, kept: bool = False) -> None:
    """How many pages, or files of an archive, are read so far, for whoever looks on. Raises Stopped.

    `kept`: something of it outlives this run, so the next one is further than this one was.
    """
    _still_open()
    progress = {"attempts": 1, "retries": 0} if kept else {}
    unfinished = Document.objects.filter(pk=document_id, state=State.EXTRACTING)
    if not unfinished.update(pages_read=done, pages_total=total, **progress):
        raise Stopped


@transaction.atomic
def put_back(document_id: UUID) -> None:
    """Let others go first: what was done of it is kept, and the rest is done in another turn. Raises Stopped."""
    document = _working(document_id, State.EXTRACTING)
    _close([document_id], Stage.Outcome.DONE)
    document.attempts, document.retries = 0, 0
    _enter(document, State.QUEUED, "attempts", "retries")


@transaction.atomic
def found(document_id: UUID, format_name: str) -> None:
    """What the file is, before all of it is read. Raises Stopped."""
    document = _working(document_id, State.EXTRACTING)
    document.format = format_name
    document.save(update_fields=["format"])


@transaction.atomic
def extracted(document_id: UUID, extraction: Extraction) -> None:
    """Commit the text, in the place of one that was read before: all pages or none. Raises Stopped."""
    document = _working(document_id, State.EXTRACTING)
    if document.pages:
        _forget([document_id])
    _keep(document, extraction)
    document.attempts, document.retries = 1, 0
    document.chunks_total = document.chunks_done = 0
    written = ("pages", "pages_unread", "format", "detail", "attempts", "retries", "chunks_total", "chunks_done")
    _enter(document, State.EMBEDDING, *written)
    _close([document_id], Stage.Outcome.DONE, **tally(extraction))
    _open(document_id, Stage.Name.EMBED)


@transaction.atomic
def unlocked(document_id: UUID, extraction: Extraction) -> None:
    """Commit the text that a password opened, and queue the document: the work goes on from there. Raises Refused."""
    document = _locked(document_id)
    if document is None or document.trashed_at is not None or not document.is_locked:
        raise Refused("This document does not ask for a password any more.")
    _keep(document, extraction)
    document.reason, document.attempts, document.retries = "", 0, 0
    document.started_at = document.finished_at = None
    fields = ("pages", "pages_unread", "format", "detail", "reason", "attempts", "retries", "started_at", "finished_at")
    _enter(document, State.QUEUED, *fields)
    _open(document_id, Stage.Name.EXTRACT)  # it ran in the request that had the password
    _close([document_id], Stage.Outcome.DONE, **tally(extraction))


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
    document.pages, document.pages_unread = len(extraction.pages), len(extraction.numbers(Origin.FAILED))
    document.format = extraction.format
    document.detail = _unread(extraction)


@transaction.atomic
def planned(document_id: UUID, *, total: int, done: int) -> None:
    """How many passages there are to embed, and how many already are. Raises Stopped."""
    _advance(document_id, chunks_total=total, chunks_done=done)


def advance(document_id: UUID, *, done: int) -> None:
    """Record a batch; to be called first in the batch's transaction, which then holds the row. Raises Stopped."""
    _advance(document_id, chunks_done=F("chunks_done") + done, attempts=1, retries=0)
    Stage.objects.filter(document_id=document_id, ended_at=None).update(passages=F("passages") + done)


def still_working(document_id: UUID) -> None:
    """Raises Stopped when the document was cancelled, deleted or ended by somebody else, or the workspace is closed."""
    _still_open()
    if not Document.objects.filter(pk=document_id, state__in=Document.UNFINISHED).exists():
        raise Stopped


@transaction.atomic
def finish(document_id: UUID) -> None:
    """Ready: from here on it is found, in the place of the version before it. Raises Stopped."""
    rows = series.locked(document_id)
    document = _working(document_id, State.EMBEDDING)
    if versions.comes_into_use(document, rows):
        _read_no_more([row.pk for row in rows if row.pk != document_id])
        versions.put_in_use(document, rows)
    else:
        indexing.withdraw([document_id])
    _close([document_id], Stage.Outcome.DONE)
    _end(document, State.READY)


@transaction.atomic
def fail(document_id: UUID, reason: Reason, detail: str = "", format_name: str = "") -> None:
    """End with a reason, unless somebody ended it before; what can heal is queued again, for later.

    `format_name`: what the file was found to be, where that is known.
    """
    document = _locked(document_id)
    if document is not None and State(document.state) not in FINAL:
        _close([document_id], Stage.Outcome.FAILED, reason=reason)
        document.format = format_name or document.format
        _fail(document, reason, detail)


@transaction.atomic
def cancel_all(document_ids: Iterable[UUID]) -> int:
    """Stop those of them that have not ended and forget what was done so far; files are kept, and of those that were to be
    read again what was found. How many there were.
    """
    return _note(Event.CANCELLED, stop_all(document_ids))


@transaction.atomic
def stop_all(document_ids: Iterable[UUID]) -> list[UUID]:
    """Cancel as a part of something else, which is what the log tells of. Returns those that had not ended."""
    found = _locked_all(document_ids, state__in=Document.UNFINISHED)
    _close(found, Stage.Outcome.CANCELLED)
    stay = indexing.published(found)
    gone = [pk for pk in found if pk not in stay]
    ended = {"finished_at": timezone.now(), "retry_at": None}
    _enter_all(stay, State.READY, **ended)
    _enter_all(gone, State.CANCELLED, **ended, **_forget(gone))
    return found


@transaction.atomic
def retry_all(document_ids: Iterable[UUID]) -> list[UUID]:
    """Queue again those of them that can be, and return them. They continue with the stage that failed."""
    again = Q(state=State.CANCELLED) | Q(state=State.FAILED, reason__in=RETRYABLE)
    found = _locked_all(document_ids, again, trashed_at=None)
    write = Document._meta.get_field("detail").writer()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE documents_document SET detail = empty.detail "
            "FROM unnest(%s::uuid[], %s::bytea[]) AS empty (id, detail) WHERE documents_document.id = empty.id",
            [found, [write(pk, "") for pk in found]],
        )
    _queue_again(found)
    return found


@transaction.atomic
def read_again(document_ids: Iterable[UUID]) -> list[UUID]:
    """Queue those of them that are in use but have pages that could not be read, to be read from their files, and return them.

    What is found of them stays so until their text is read anew, and for good when reading it fails or is cancelled.
    """
    found = _locked_all(document_ids, state=State.READY, is_current=True, pages_unread__gt=0, trashed_at=None)
    _queue_again(found)
    return found


def _read_no_more(others: list[UUID]) -> None:
    """Versions that are being read again while another takes their place: they are ready, as they were before."""
    stay = indexing.published(others)
    _close(stay, Stage.Outcome.CANCELLED)
    _enter_all(stay, State.READY, finished_at=timezone.now(), retry_at=None)


def _queue_again(found: list[UUID]) -> None:
    """As if they had just come, from where they are."""
    _enter_all(found, State.QUEUED, reason="", attempts=0, retries=0, started_at=None, finished_at=None)
    _note(Event.RETRIED, found)


def _forget(found: Collection[UUID]) -> dict[str, object]:
    """What was done so far for documents that are locked; returns what their rows then say."""
    indexing.remove(found)
    Page.objects.filter(document_id__in=found).delete()
    return {"pages": 0, "pages_unread": 0, "chunks_total": 0, "chunks_done": 0}


def tally(extraction: Extraction) -> dict[str, int]:
    """What became of the pages, each counted once, as columns of Stage: their numbers add up to `pages`."""
    became = Counter(_COLUMNS[page.origin] for page in extraction.pages)
    return {"pages": len(extraction.pages), **became}


def _open(document_id: UUID, name: Stage.Name) -> None:
    worker = f"{socket.gethostname()[:80]}:{os.getpid()}"
    with connection.cursor() as cursor:  # one statement: a small file costs little more than its statements
        cursor.execute(
            "INSERT INTO documents_stage (document_id, name, attempt, worker, started_at, outcome, reason, pages, "
            "pages_extracted, pages_ocr, pages_empty, pages_failed, passages) "
            "SELECT %s, %s, count(*) + 1, %s, %s, '', '', 0, 0, 0, 0, 0, 0 FROM documents_stage "
            "WHERE document_id = %s AND name = %s",
            [document_id, name.value, worker, timezone.now(), document_id, name.value],
        )


def _close(document_ids: Iterable[UUID], outcome: Stage.Outcome, **columns: object) -> None:
    """End the runs of these documents that nobody has ended yet."""
    running = Stage.objects.filter(document_id__in=document_ids, ended_at=None)
    running.update(ended_at=timezone.now(), outcome=outcome, **columns)


def _locked(document_id: UUID) -> Document | None:
    return Document.objects.select_for_update().filter(pk=document_id).first()


def _locked_all(document_ids: Iterable[UUID], *conditions: Q, **more: object) -> list[UUID]:
    """Those of them that are so, in the order in which everybody locks rows."""
    rows = Document.objects.select_for_update(of=("self",)).filter(*conditions, pk__in=list(document_ids), **more)
    return list(rows.order_by("pk").values_list("pk", flat=True))


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


def _enter_all(document_ids: Collection[UUID], state: State, **columns: object) -> None:
    """The same for many that are locked."""
    allowed = [before for before, after in TRANSITIONS.items() if state in after]
    Document.objects.filter(pk__in=document_ids, state__in=allowed).update(state=state, **columns)


def _note(event: Event, document_ids: list[UUID]) -> int:
    """One entry for all of them, last: it locks the log until the transaction ends."""
    if document_ids:
        only = str(document_ids[0]) if len(document_ids) == 1 else None
        record(event, document=only, documents=len(document_ids))
    return len(document_ids)


def _fail(document: Document, reason: Reason, detail: str = "") -> None:
    if reason in HEALS and document.retries < len(WAITS):
        document.retry_at = timezone.now() + timedelta(seconds=WAITS[document.retries])
        document.retries += 1
        document.attempts = min(document.attempts, MAX_ATTEMPTS - 1)  # what killed its workers gets one more
        _enter(document, State.QUEUED, "retry_at", "retries", "attempts")
        return
    if _is_found(document):  # as it was read before
        _end(document, State.READY)
        return
    document.detail = detail
    _end(document, State.FAILED, reason, "detail", "format")


def _is_found(document: Document) -> bool:
    """Though it is worked on: it is being read again, and its new text is not there yet."""
    return document.pages > 0 and bool(indexing.published([document.pk]))


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
    if extraction.why is None:
        return said
    return f"{said} {SENTENCES[extraction.why][0]} Once that has changed, choose Read again."
