"""The trash: out of the search, the lists and every page at once, and back with everything for TRASH_DAYS.

What lies in it is encrypted as before and counts against the quotas; erasing is documents.erasing's.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from documents import erasing, ledger, series
from documents.describing import searchable
from documents.models import Document
from search import indexing
from tenants.audit.events import Event
from tenants.audit.recording import record


@transaction.atomic
def trash(ids: Iterable[UUID], by_id: int | None) -> int:
    """Move these documents to the trash; what is being worked on is cancelled first. Returns how many were not there yet.

    Every version goes along, and comes back along; documents are counted once. A version that never was in use goes alone.

    From the commit on nobody finds or opens them.
    """
    named, now = set(ids), timezone.now()
    found = series.meant(named, _locked(named, trashed_at=None))
    for batch in erasing.batches(document.id for document in found):
        ledger.stop_all(batch)
        indexing.unpublish(batch)
        Document.objects.filter(pk__in=batch).update(trashed_at=now, trashed_by_id=by_id)
    _note(Event.TRASHED, found)
    return len({series.of(document) for document in found})


@transaction.atomic
def restore(ids: Iterable[UUID]) -> list[Document]:
    """Take them out again: what was ready is found again, as it was; what was cancelled can be retried."""
    found = _locked(ids, trashed_at__isnull=False)
    values = searchable(document.id for document in found)
    for document in found:
        if document.state == Document.State.READY and document.is_current:
            indexing.publish(document.id, document.collection_id, values[document.id])
    for batch in erasing.batches(document.id for document in found):
        Document.objects.filter(pk__in=batch).update(trashed_at=None, trashed_by_id=None)
    _note(Event.RESTORED, found)
    return found


def _locked(ids: Iterable[UUID], **those: object) -> list[Document]:
    """Every version of these of which that is true, locked in the order in which all who lock several do."""
    found: list[Document] = []
    for batch in erasing.batches(sorted(series.with_all(ids))):
        found += Document.objects.select_for_update().filter(pk__in=batch, **those).order_by("pk")
    return found


def _note(event: Event, documents: list[Document]) -> None:
    """One entry, however many: a whole collection can go at once."""
    if not documents:
        return
    collections = {document.collection_id for document in documents}
    record(
        event,
        document=str(documents[0].id) if len(documents) == 1 else None,
        collection=str(collections.pop()) if len(collections) == 1 else None,
        documents=len(documents),
    )


def erased_at(document: Document) -> datetime:
    """When its time in the trash is over. It must be there."""
    assert document.trashed_at is not None
    return document.trashed_at + timedelta(days=settings.TRASH_DAYS)


def days_left(document: Document) -> int:
    """Days until it is erased, the one that has begun among them; 0: with the next sweep."""
    return max(0, ceil((erased_at(document) - timezone.now()) / timedelta(days=1)))


def erase_expired() -> int:
    """Erase what has been in the trash for TRASH_DAYS, unless the workspace must be kept. Returns how many went."""
    due = timezone.now() - timedelta(days=settings.TRASH_DAYS)
    ids = list(Document.objects.filter(trashed_at__lte=due).values_list("id", flat=True))
    return erasing.erase(ids, trashed_at__lte=due).documents if ids else 0
