"""The metadata of documents: what each has in the fields of its collection. The one way in for pages, CSV files and jobs.

All or nothing: what is not valid is named, field by field, and then nothing of it is stored. What can be filtered by
reaches the search in the same transaction, for documents that are found; the others bring it along when they are.
"""

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction

from documents.erasing import refuse_on_hold
from documents.fields import FILE_COLUMN, fields_of, for_search, lock, put_name, read_value, same_name, shown, there
from documents.models import Collection, Document, Field, Value
from search import indexing
from search.facts import Value as Searchable
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused

MAX_ROWS = 20_000  # of a sidecar
MAX_CELL = 10_000  # characters
SHOWN_MISTAKES = 200
BATCH = 5000  # values of a statement

Changes = Mapping[UUID, Mapping[UUID, str]]  # document -> field -> what is stored, "" for nothing


class Invalid(Refused):
    """Values that cannot be stored; `errors` says by the name of the field what is wrong and what to do."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(f"{name}: {said}" for name, said in self.errors.items()))


class BadSidecar(Refused):
    """A CSV file of which nothing was stored; `mistakes` names the lines, all of them counted, the first listed."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes, self.total = list(mistakes[:SHOWN_MISTAKES]), len(mistakes)
        super().__init__(" ".join(self.mistakes))


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
    return _write(collection, {pk: read_values(values, by_name) for pk, values in documents.items()})


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


def _write(collection: Collection, changes: Changes) -> int:
    """Under the collection's lock. Raises Refused when a document is not there, or not in this collection."""
    ready = _lock_documents(collection, list(changes))
    changed = _differences(changes)
    if not changed:
        return 0
    _store([(*place, value) for place, value in changed.items() if value])
    with connection.cursor() as cursor:
        gone = [Value.identity(*place) for place, value in changed.items() if not value]
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


def _lock_documents(collection: Collection, ids: list[UUID]) -> set[UUID]:
    """Those of them that the search finds. In the order in which all who lock several do."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, state FROM documents_document WHERE id = ANY(%s) AND collection_id = %s AND trashed_at IS NULL "
            "ORDER BY id FOR NO KEY UPDATE",
            [ids, collection.pk],
        )
        found = dict(cursor.fetchall())
    if len(found) < len(set(ids)):
        raise Refused("A document is not there any more, or in the trash. Nothing was changed.")
    return {pk for pk, state in found.items() if state == Document.State.READY}


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
            "SELECT id, state, trashed_at FROM documents_document d "
            "WHERE EXISTS (SELECT FROM documents_value v WHERE v.document_id = d.id AND v.field_id = %s) "
            "ORDER BY id FOR NO KEY UPDATE",
            [field.pk],
        )
        return {pk for pk, state, trashed in cursor.fetchall() if state == Document.State.READY and trashed is None}


# ---------------------------------------------------------------- CSV


@transaction.atomic
def describe_by_csv(collection: Collection, content: bytes) -> int:
    """Set values by a CSV file: a column `file` with the name of each document's file or its reference, and columns named
    like fields. An empty cell changes nothing. Returns how many documents it describes.

    Raises BadSidecar with every line that is wrong; then nothing is stored.
    """
    lock(collection)
    by_name = {same_name(field.name): field for field in fields_of(collection)}
    lines = _lines(content)
    columns, place = _columns(lines[0][1], by_name)
    named = _documents_by_name(collection)
    changes: dict[UUID, dict[UUID, str]] = {}
    first: dict[UUID, int] = {}
    mistakes: list[str] = []
    for number, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            mistakes.append(
                f"Line {number}: has {len(cells)} cells, the first line {len(columns)}. Put cells with commas in quotes."
            )
            continue
        cells += [""] * (len(columns) - len(cells))
        name = _file_name(cells[place])
        if (problem := _not_one(name, named.get(name, ()))) or (said := first.get(named[name][0], 0)):
            mistakes.append(f"Line {number}: {problem or f'describes {shown(name)} again, as line {said} does.'}")
            continue
        document = named[name][0]
        first[document] = number
        typed = {columns[i]: cell for i, cell in enumerate(cells[: len(columns)]) if i != place and cell.strip()}
        try:
            changes[document] = read_values(typed, by_name)
        except Invalid as invalid:
            mistakes += [f"Line {number}, {column}: {said}" for column, said in invalid.errors.items()]
    if mistakes:
        raise BadSidecar(mistakes)
    if not changes:
        raise BadSidecar(["The file has no line below the names of its columns."])
    _write(collection, changes)
    return len(changes)


def _lines(content: bytes) -> list[tuple[int, list[str]]]:
    """The cells of each line, and the number of the line they end on. Raises BadSidecar."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadSidecar(["The file is not in UTF-8. Save it as “CSV UTF-8”, then upload it again."]) from None
    if "\0" in text:
        raise BadSidecar(["The file contains zero bytes: it is no CSV file. Save it as “CSV UTF-8”."])
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=head.count)  # as spreadsheets write it, by language
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(len(cell) > MAX_CELL for cell in cells):
                raise BadSidecar([f"Line {reader.line_num}: a cell has more than {MAX_CELL:,} characters. Is a quote missing?"])
            lines.append((reader.line_num, cells))
            if len(lines) > MAX_ROWS + 1:
                raise BadSidecar([f"The file has more than {MAX_ROWS:,} lines. Split it."])
    except csv.Error:
        raise BadSidecar([f"Line {reader.line_num}: quotes do not match. Put a quote within a cell twice."]) from None
    if not lines or not any(cell.strip() for cell in lines[0][1]):
        raise BadSidecar([f"The file is empty. Its first line names the columns: {FILE_COLUMN}, and fields."])
    return lines


def _columns(names: list[str], by_name: Mapping[str, Field]) -> tuple[list[str], int]:
    """The names of the columns, and which one names the document. Raises BadSidecar."""
    while names and not names[-1].strip():
        names = names[:-1]
    keys = [same_name(name) for name in names]
    mistakes = []
    if FILE_COLUMN not in keys:
        mistakes.append(f"Line 1: there is no column “{FILE_COLUMN}”, which names the document of each line. Add it.")
    for name in dict.fromkeys(names):
        key = same_name(name)
        if keys.count(key) > 1:
            mistakes.append(f"Line 1: the column {shown(name)} stands there {keys.count(key)} times. Keep one.")
        elif key != FILE_COLUMN and key not in by_name:
            mistakes.append(f"Line 1: this collection has no field {shown(name)}. Remove the column, or add the field.")
    if mistakes:
        raise BadSidecar(mistakes)
    return names, keys.index(FILE_COLUMN)


def _file_name(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def _documents_by_name(collection: Collection) -> dict[str, tuple[UUID, ...]]:
    """The documents of a collection, those in the trash left out, by the name of their file and by their reference."""
    file_name, reference = Document._meta.get_field("file_name").reader(), Document._meta.get_field("reference").reader()
    found: defaultdict[str, tuple[UUID, ...]] = defaultdict(tuple)
    there = collection.documents.filter(trashed_at=None).order_by()
    for pk, its_name, its_reference in there.values_list("id", "file_name", "reference"):
        for name in {_file_name(file_name(pk, its_name)), _file_name(reference(pk, its_reference))} - {""}:
            found[name] += (pk,)
    return found


def _not_one(name: str, documents: tuple[UUID, ...]) -> str:
    """Why a name in the column `file` does not say which document is meant; empty when it does."""
    if not name:
        return f"the column “{FILE_COLUMN}” is empty. Name the document's file there."
    if not documents:
        return f"no document of this collection has the file name {shown(name)}. Upload the file first, or correct the name."
    if len(documents) > 1:
        return f"{len(documents)} documents have the file name {shown(name)}. Describe them on their own pages."
    return ""
