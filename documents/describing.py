"""The metadata of documents: what each has in the fields of its collection. The way in for pages and CSV files alike.

All or nothing: what is not valid is named, field by field, and then nothing of it is stored. What can be filtered by
reaches the search in the same transaction, for documents that are found; the others bring it along when they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction

from documents import series
from documents.erasing import refuse_on_hold
from documents.fields import fields_of, for_search, lock, put_name, read_value, same_name, there
from documents.models import Collection, Document, Field, Value
from search import indexing
from search.facts import Value as Searchable
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused

BATCH = 5000  # values of a statement

Changes = Mapping[UUID, Mapping[UUID, str]]  # document -> field -> what is stored, "" for nothing


class Invalid(Refused):
    """Values that cannot be stored; `errors` says by the name of the field what is wrong and what to do."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(f"{name}: {said}" for name, said in self.errors.items()))


@dataclass(frozen=True, slots=True)
class Described:
    """What one document has in one field of its collection; "" for nothing."""

    field: Field
    value: str


def described(document: Document) -> list[Described]:
    """Every field of the collection, with what the document has in it."""
    held = {value.field_id: value.value for value in document.values.all()}
    return [Described(field, held.get(field.pk, "")) for field in fields_of(document.collection)]


# ---------------------------------------------------------------- the verbs


def describe(document: Document, values: Mapping[str, str]) -> int:
    """Set values of a document by the names of fields, as somebody typed them; "" removes one, what is not named stays.

    Returns how many changed. Raises Invalid, and Refused when the document is gone.
    """
    return describe_all(document.collection, {document.pk: values})


@transaction.atomic
def describe_all(collection: Collection, documents: Mapping[UUID, Mapping[str, str]]) -> int:
    """As `describe`, for documents of one collection: all of them or none."""
    lock(collection)
    by_name = {same_name(field.name): field for field in fields_of(collection)}
    return write(collection, {pk: read_values(values, by_name) for pk, values in documents.items()})


def read_values(values: Mapping[str, str], by_name: Mapping[str, Field]) -> dict[UUID, str]:
    """What was typed by the names of fields as what is stored by their ids. Raises Invalid."""
    read: dict[UUID, str] = {}
    errors: dict[str, str] = {}
    for name, typed in values.items():
        field = by_name.get(same_name(name))
        if field is None:
            errors[name] = "This collection has no such field."
            continue
        try:
            read[field.pk] = read_value(field.kind, typed)
        except Refused as refused:
            errors[name] = str(refused)
    if errors:
        raise Invalid(errors)
    return read


def write(collection: Collection, changes: Changes) -> int:
    """What `read_values` gave, by document, under the collection's lock. Returns how many values changed.

    A version that is to take a document's place gets what changed, too. Raises Refused when a document is not there, or not
    in this collection.
    """
    ready, on_their_way = _lock_documents(collection, list(changes))
    changed = _differences(changes)
    if not changed:
        return 0
    places = ((pk, field, value) for (pk, field), value in changed.items())
    stored = changed | {(version, field): value for pk, field, value in places for version in on_their_way.get(pk, ())}
    _store([(*place, value) for place, value in stored.items() if value])
    with connection.cursor() as cursor:
        gone = [Value.identity(*place) for place, value in stored.items() if not value]
        cursor.execute("DELETE FROM documents_value WHERE id = ANY(%s)", [gone])
    filterable = set(collection.fields.filter(filterable=True).values_list("id", flat=True))
    _tell_search({document for document, field in changed if field in filterable} & ready)
    touched = {document for document, _ in changed}
    only = str(next(iter(touched))) if len(touched) == 1 else None
    record(Event.DESCRIBED, document=only, collection=str(collection.pk), documents=len(touched))
    return len(changed)


def _store(values: list[tuple[UUID, UUID, str]]) -> None:
    """Document, field and value of each; in statements that end within the time a web process gives one."""
    write = Value._meta.get_field("value").writer()
    for start in range(0, len(values), BATCH):
        batch = values[start : start + BATCH]
        documents, holding, texts = zip(*batch, strict=True)
        ids = [Value.identity(document, field) for document, field in zip(documents, holding, strict=True)]
        sealed = [write(pk, text) for pk, text in zip(ids, texts, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO documents_value (id, document_id, field_id, value) "
                "SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %b::bytea[]) "
                "ON CONFLICT (id) DO UPDATE SET value = excluded.value",
                [ids, list(documents), list(holding), sealed],
            )


def _lock_documents(collection: Collection, ids: list[UUID]) -> tuple[set[UUID], dict[UUID, list[UUID]]]:
    """Those of them that the search finds, and of each the versions that are on their way to take its place.

    In the order in which all who lock several do.
    """
    later = series.on_their_way(ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, state, is_current FROM documents_document WHERE id = ANY(%s) AND collection_id = %s "
            "AND trashed_at IS NULL AND (is_current OR state <> 'ready') "
            "ORDER BY id FOR NO KEY UPDATE",
            [[*ids, *later], collection.pk],
        )
        found = {pk: (state, is_current) for pk, state, is_current in cursor.fetchall()}
    if not all(pk in found and found[pk][1] for pk in ids):
        raise Refused(
            "A document is not there any more, in the trash, or another version of it is in use. Nothing was changed."
        )
    on_their_way: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for version in later.keys() & found.keys():
        on_their_way[later[version]].append(version)
    return _found({pk: found[pk][0] for pk in ids}), on_their_way


def _differences(changes: Changes) -> dict[tuple[UUID, UUID], str]:
    """What is not stored like that already, by document and field."""
    read = Value._meta.get_field("value").reader()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, document_id, field_id, value FROM documents_value WHERE document_id = ANY(%s)", [list(changes)]
        )
        held = {(document, field): read(pk, value) for pk, document, field, value in cursor.fetchall()}
    wanted = {(document, field): value for document, values in changes.items() for field, value in values.items()}
    return {place: value for place, value in wanted.items() if held.get(place, "") != value}


# ---------------------------------------------------------------- what the search knows of it


def searchable(ids: Iterable[UUID]) -> dict[UUID, dict[UUID, Searchable]]:
    """Of each of these documents, what the search can filter by."""
    found: dict[UUID, dict[UUID, Searchable]] = {pk: {} for pk in ids}
    read = Value._meta.get_field("value").reader()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT v.id, v.document_id, v.field_id, f.kind, v.value FROM documents_value v "
            "JOIN documents_field f ON f.id = v.field_id JOIN documents_document d ON d.id = v.document_id "
            "WHERE v.document_id = ANY(%s) AND f.filterable AND f.collection_id = d.collection_id",
            [list(found)],
        )
        for pk, document, field, kind, value in cursor.fetchall():
            found[document][field] = for_search(kind, read(pk, value))
    return found


def _tell_search(ids: set[UUID]) -> None:
    indexing.describe(searchable(sorted(ids)))


@transaction.atomic
def change_field(field: Field, name: str, *, filterable: bool) -> None:
    """What a field is called, and whether the search can filter by it. Raises Refused: the name is taken, or the field gone."""
    found = there(field)
    put_name(found, name)
    if found.filterable != filterable:
        holding = _lock_holding(found)
        found.filterable = filterable
        found.save(update_fields=["filterable"])
        _tell_search(holding)
    record(Event.FIELDS, collection=str(found.collection_id))


def held(field: Field) -> int:
    """How many documents have a value in a field, those in the trash too."""
    return Value.objects.filter(field=field).count()


@transaction.atomic
def delete_field(field: Field) -> int:
    """Erase a field with every value in it. Returns how many documents had one.

    Raises Refused when it is gone, and under a legal hold.
    """
    refuse_on_hold()
    found = there(field)
    holding = _lock_holding(found)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM documents_value WHERE field_id = %s", [field.pk])
        values = cursor.rowcount
    Field.objects.filter(pk=field.pk).delete()
    if found.filterable:
        _tell_search(holding)
    record(Event.FIELDS, collection=str(field.collection_id))
    return int(values)


def _lock_holding(field: Field) -> set[UUID]:
    """The documents with a value in it that the search finds: whoever finishes or restores one waits, or came before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, state, trashed_at IS NULL AND is_current FROM documents_document d "
            "WHERE EXISTS (SELECT FROM documents_value v WHERE v.document_id = d.id AND v.field_id = %s) "
            "ORDER BY id FOR NO KEY UPDATE",
            [field.pk],
        )
        return _found({pk: state for pk, state, in_use in cursor.fetchall() if in_use})


def _found(states: Mapping[UUID, str]) -> set[UUID]:
    """Those in use that are ready, or are found while they are read again."""
    ready = {pk for pk, state in states.items() if state == Document.State.READY}
    return ready | indexing.published(states.keys() - ready)
