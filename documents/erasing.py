"""Deleting documents: passages and index entries, pages, row, and the file once the rows are gone for good."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from uuid import UUID

from django.db import transaction

from documents import quotas, storage
from documents.models import Collection, Document, Page
from search import indexing

BATCH = 5000  # ids of a statement; PostgreSQL takes at most 65,535 parameters


def delete(document: Document) -> None:
    """Delete one document. A worker on it notices before its next commit."""
    delete_documents([document.id])


@transaction.atomic
def delete_documents(ids: Iterable[UUID]) -> int:
    """Delete these documents, all or none. Returns how many there were. The files go when the transaction commits."""
    names: dict[UUID, str] = {}
    sizes: list[int] = []
    # Every row before the first `remove`, which locks the index: whoever finishes a document locks them in this order too.
    for batch in _batches(sorted(ids)):
        rows = Document.objects.select_for_update(of=("self",)).filter(pk__in=batch).order_by("pk")
        for pk, name, size, is_canary in rows.values_list("id", "stored_name", "size", "collection__is_canary"):
            names[pk] = name
            sizes += [] if is_canary else [size]
    for batch in _batches(names):
        indexing.remove(batch)
        Page.objects.filter(document_id__in=batch).delete()
        Document.objects.filter(pk__in=batch).delete()
    quotas.give_back(len(sizes), sum(sizes))  # last, as everywhere: whoever holds this row waits for no other
    transaction.on_commit(partial(storage.remove, list(names.values())))
    return len(names)


@transaction.atomic
def delete_collection(collection: Collection) -> int:
    """Delete a collection with all its documents. Returns how many documents it had; none when it is gone already."""
    locked = Collection.objects.select_for_update().filter(pk=collection.pk)  # no document arrives while it goes
    if locked.first() is None:
        return 0
    deleted = delete_documents(list(collection.documents.values_list("id", flat=True)))
    collection.delete()
    return deleted


def _batches(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    remaining = iter(ids)
    while batch := list(islice(remaining, BATCH)):
        yield batch
