"""A stored file becomes a document: its row, its collection and its place in the queue. The one way in for view and command."""

import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from documents import access, dispatch, fields, queueing, quotas, versions
from documents.models import Collection, CollectionMember, Document, Value
from documents.storage import FileMissing, StoredFile, content_digest, read
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.ciphers import Tampered, digest
from tenants.errors import Refused
from tenants.models import Membership
from tenants.permissions import Role

DEFAULT_COLLECTION = "Documents"
COLLECTION_CHARACTERS = 100


def receive(
    stored: StoredFile,
    file_name: str,
    collection: Collection,
    *,
    created_by_id: int | None = None,
    title: str = "",
    reference: str = "",
    values: Mapping[UUID, str] | None = None,
    unless_among: QuerySet[Document] | None = None,
    archive: UUID | None = None,
) -> Document:
    """Write the row of a stored file and queue the work on it. `values`: its metadata by field, as documents.fields reads it.

    What has the name (or the reference) of a document in the collection becomes its next version, with the metadata of the
    one in use where none is given. Raises AlreadyHere when one of `unless_among` has the same bytes. `archive`: the
    document that the file came out of; its values fill in what the one in use has not.

    Raises Refused when the collection is being deleted, or the workspace has no room for the file.
    """
    if unless_among is not None:
        _fill_digests(unless_among.filter(size=stored.size))
    try:
        with transaction.atomic():
            if values:
                fields.lock(collection)  # before everything else, as whoever describes a document does
                there = set(collection.fields.values_list("id", flat=True))  # one deleted since takes its values along
                values = {field: value for field, value in values.items() if field in there}
            Collection.objects.select_for_update(no_key=True).filter(pk=collection.pk).first()  # one of a name at a time
            document = Document(
                id=stored.document_id,
                collection=collection,
                title=title or title_of(file_name),
                file_name=file_name,
                reference=reference,
                size=stored.size,
                stored_name=stored.stored_name,
                created_by_id=created_by_id,
                content_digest=stored.content_digest,
                name_digest=versions.name_digest(collection.pk, reference or file_name),
                archive=archive,
            )
            if unless_among is not None and stored.content_digest is not None:
                there_is = versions.same_bytes(stored.content_digest, unless_among)
                if there_is is not None:
                    same_name = there_is.collection_id == collection.pk and there_is.name_digest == document.name_digest
                    raise versions.AlreadyHere(there_is, same_name=same_name)
            versions.fill_names(collection)
            if (last := versions.follow(document)) is not None:
                given, before = {field: value for field, value in (values or {}).items() if value}, versions.inherited(last)
                values = given | before if archive else before | given  # nobody typed them for this file of an archive
            document.save(force_insert=True)
            Value.objects.bulk_create(
                Value(id=Value.identity(document.id, field), document=document, field_id=field, value=value)
                for field, value in (values or {}).items()
                if value
            )
            connection.check_constraints()  # now, not at the commit: waits for whoever deletes the collection
            if not collection.is_canary:
                quotas.reserve(stored.size)  # last: whoever deletes locks the collection first and the usage last, too
                record(Event.UPLOADED, document=str(document.id), bytes=stored.size)
            transaction.on_commit(partial(queueing.began, [document.id], document.created_at))
            transaction.on_commit(dispatch.queue_unfinished)
    except IntegrityError:
        if Collection.objects.filter(pk=collection.pk).exists():
            raise
        raise Refused("The collection was deleted in the meantime. Choose another, then upload again.") from None
    return document


def _fill_digests(documents: QuerySet[Document]) -> None:
    """Of the bytes of those that an earlier version of the code stored without; a file that cannot be read stays without."""
    for document in documents.filter(content_digest=None):
        with suppress(FileMissing, Tampered):
            found = content_digest(read(document.pk, document.stored_name))
            Document.objects.filter(pk=document.pk).update(content_digest=found)


def title_of(file_name: str) -> str:
    """The name without its extension: what a person calls the document."""
    stem, dot, extension = file_name.rpartition(".")
    return stem.strip() if dot and stem.strip() and len(extension) <= 10 else file_name


# ---------------------------------------------------------------- collections


def collection_named(name: str) -> Collection:
    """The collection of that name, made when there is none. Upper and lower case are the same name.

    Asks nobody whether they may see it: `collection_open_to` does.
    """
    name = _checked(name)
    key = _digest(name)
    found = Collection.objects.filter(name_digest=key).first()
    if found is None:
        try:
            with transaction.atomic():
                found = Collection.objects.create(name=name, name_digest=key)
                record(Event.COLLECTION_CREATED, collection=str(found.pk), restricted=False)
        except IntegrityError:  # somebody else made it a moment ago
            found = Collection.objects.get(name_digest=key)
    return found


def create_collection(name: str, *, by: Membership | None = None, restricted: bool = False) -> Collection:
    """A new collection; a restricted one is seen by the owners and `by`. Raises Refused when the name is taken or unusable."""
    name = _checked(name)
    try:
        with transaction.atomic():
            made = Collection.objects.create(name=name, name_digest=_digest(name), restricted=restricted)
            if restricted and by is not None and by.role != Role.OWNER:
                CollectionMember.objects.create(collection=made, membership_id=by.pk)
            record(Event.COLLECTION_CREATED, collection=str(made.pk), restricted=restricted)
    except IntegrityError:
        raise Refused(f"There is already a collection named “{name}”.") from None
    return made


def collection_open_to(membership: Membership, name: str) -> Collection:
    """The collection of that name, made when there is none. Raises Refused when it is not for the member."""
    found = collection_named(name)
    if not access.visible_collections(membership).filter(pk=found.pk).exists():
        raise Refused(f"“{found.name}” is not open to you. Choose another collection.")
    return found


def rename_collection(collection: Collection, name: str) -> None:
    """Raises Refused when the name is taken or unusable."""
    name = _checked(name)
    key = _digest(name)
    if Collection.objects.filter(name_digest=key).exclude(pk=collection.pk).exists():
        raise Refused(f"There is already a collection named “{name}”.")
    collection.name, collection.name_digest = name, key
    with transaction.atomic():
        collection.save(update_fields=["name", "name_digest"])
        record(Event.COLLECTION_RENAMED, collection=str(collection.pk))


def _checked(name: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise Refused("Give the collection a name.")
    if len(name) > COLLECTION_CHARACTERS:
        raise Refused(f"A name has at most {COLLECTION_CHARACTERS} characters; this one has {len(name)}.")
    if not name.isprintable():
        raise Refused("The name contains characters that cannot be shown.")
    return name


def _digest(name: str) -> bytes:
    return digest("dedupe", f"collection:{name.casefold()}")
