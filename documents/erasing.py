"""Deleting documents: passages and index entries, pages, row, and the file once the rows are gone for good."""

from collections.abc import Iterable
from functools import partial
from itertools import islice
from uuid import UUID

from django.db import transaction

from documents import storage
from documents.models import Collection, Document, Page
from search import indexing

BATCH = 5000  # ids of a statement; PostgreSQL takes at most 65,535 parameters


def delete(document: Document) -> None:
    """Delete one document. A worker on it notices before its next commit."""
    delete_documents([document.id])


@transaction.atomic
def delete_documents(ids: Iterable[UUID]) -> int:
    """Delete these documents, all or none. Returns how many there were. The files go when the transaction commits."""
    deleted = 0
    remaining = iter(ids)
    while batch := list(islice(remaining, BATCH)):
        rows = Document.objects.select_for_update().filter(pk__in=batch).order_by("pk").values_list("id", "stored_name")
        names = dict(rows)
        indexing.remove(list(names))
        Page.objects.filter(document_id__in=list(names)).delete()
        Document.objects.filter(pk__in=list(names)).delete()
        transaction.on_commit(partial(storage.remove, list(names.values())))
        deleted += len(names)
    return deleted


@transaction.atomic
def delete_collection(collection: Collection) -> int:
    """Delete a collection with all its documents. Returns how many documents it had."""
    Collection.objects.select_for_update().get(pk=collection.pk)  # no document arrives while it goes
    deleted = delete_documents(list(collection.documents.values_list("id", flat=True)))
    collection.delete()
    return deleted
