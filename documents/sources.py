"""Tells `search` what documents are called and where they are shown, through the registry it keeps for that."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from documents import access, importing, models
from documents.models import Document, Page
from search import sources
from search.models import Chunk, Terms
from search.sources import CollectionName, CorpusText, FieldName, Quote, Source, addresses
from tenants.database import connection
from tenants.fields import readers
from tenants.models import Membership

Read = Callable[[Any, Any], Any]

COLLECTIONS = f"""
SELECT c.id, c.name, f.id, f.name, f.kind FROM documents_collection c
LEFT JOIN documents_field f ON f.collection_id = c.id AND f.filterable
WHERE {access.VISIBLE} ORDER BY f.position, f.id
"""  # noqa: S608  # fixed text
# Documents past the ORM, since it is on the way of every search; arrays: a parameter for each id would end at 65,535.
SOURCE = "d.id, d.title, d.format, c.id, c.name"
DESCRIBED = f"""
SELECT {SOURCE} FROM documents_document d JOIN documents_collection c ON c.id = d.collection_id
WHERE d.id = ANY(%s) AND c.id = ANY(%s) AND d.trashed_at IS NULL
"""  # noqa: S608  # fixed text
# Passages first, then what belongs to each by its id: left to itself, PostgreSQL may begin with every document there is.
QUOTES = f"""
WITH passage AS MATERIALIZED (SELECT id, document_id, page, text FROM search_chunk WHERE id = ANY(%s))
SELECT passage.id, passage.page, passage.text, page.id, page.label, {SOURCE} FROM passage
CROSS JOIN LATERAL (
  SELECT id, title, format, collection_id FROM documents_document
  WHERE id = passage.document_id AND collection_id = ANY(%s) AND trashed_at IS NULL OFFSET 0
) d
CROSS JOIN LATERAL (SELECT id, name FROM documents_collection WHERE id = d.collection_id OFFSET 0) c
LEFT JOIN documents_page page ON page.document_id = d.id AND page.number = passage.page
"""  # noqa: S608  # fixed text


TITLE, FORMAT = Document._meta.get_field("title"), Document._meta.get_field("format")
NAME = models.Collection._meta.get_field("name")
LABEL, TEXT = Page._meta.get_field("label"), Chunk._meta.get_field("text")


def _source_reader(title: Read, form: Read, read_name: Read) -> Callable[[Sequence[Any]], Source]:
    """Of rows of SOURCE; each collection's name is opened once."""
    names: dict[UUID, str] = {}
    address = addresses("document")

    def read(row: Sequence[Any]) -> Source:
        pk, its_title, its_format, collection, name = row
        if collection not in names:
            names[collection] = read_name(collection, name)
        return Source(pk, title(pk, its_title), address(pk), collection, names[collection], form(pk, its_format))

    return read


class DocumentSources:
    """Implements search.sources.Sources; each method takes a fixed number of queries."""

    def describe(self, ids: Iterable[UUID], collections: Collection[UUID]) -> dict[UUID, Source]:
        with connection.cursor() as cursor:
            cursor.execute(DESCRIBED, [list(ids), list(collections)])
            rows = cursor.fetchall()
        return {source.id: source for source in map(_source_reader(*readers(TITLE, FORMAT, NAME)), rows)}

    def quotes(self, passages: Iterable[UUID], collections: Collection[UUID]) -> dict[UUID, Quote]:
        label, text, *of_source = readers(LABEL, TEXT, TITLE, FORMAT, NAME)
        source = _source_reader(*of_source)
        with connection.cursor() as cursor:
            cursor.execute(QUOTES, [list(passages), list(collections)])
            rows = cursor.fetchall()
        return {
            pk: Quote(source(about), number, label(page, its_label) if page else "", text(pk, its_text))
            for pk, number, its_text, page, its_label, *about in rows
        }

    def hidden(self, ids: Iterable[UUID], collections: Collection[UUID]) -> set[UUID]:
        elsewhere = Document.objects.filter(pk__in=list(ids), trashed_at=None).exclude(collection_id__in=collections)
        return set(elsewhere.values_list("id", flat=True))

    def collections(self, membership: Membership) -> list[CollectionName]:
        """With their fields in one query: it is on the way of every search."""
        name, field_name = models.Collection._meta.get_field("name").reader(), models.Field._meta.get_field("name").reader()
        names: dict[UUID, str] = {}
        fields: dict[UUID, list[FieldName]] = {}
        with connection.cursor() as cursor:
            cursor.execute(COLLECTIONS, access.visible_parameters(membership))
            rows = cursor.fetchall()
        for pk, its_name, field, its_field, kind in rows:
            if pk not in names:
                names[pk], fields[pk] = name(pk, its_name), []
            if field is not None:
                fields[pk].append(FieldName(field, field_name(field, its_field), kind))
        found = [CollectionName(pk, its_name, tuple(fields[pk])) for pk, its_name in names.items()]
        return sorted(found, key=lambda each: each.name.casefold())

    def added(self, ids: Iterable[UUID]) -> dict[UUID, datetime]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, created_at FROM documents_document WHERE id = ANY(%s)", [list(ids)])
            return dict(cursor.fetchall())

    def visible(self, membership: Membership) -> frozenset[UUID]:
        return access.visible_collection_ids(membership)

    def everything(self) -> frozenset[UUID]:
        return frozenset(access.every_collection().values_list("id", flat=True))

    def references(self, collections: Collection[UUID]) -> dict[str, UUID]:
        named: dict[str, UUID | None] = {}
        there = Document.objects.filter(trashed_at=None, collection_id__in=collections)
        found = Exists(Terms.objects.filter(document_id=OuterRef("pk")))  # also while it is read again
        ready = there.filter(Q(state=Document.State.READY) | found, is_current=True)
        in_use: dict[UUID, UUID] = {}
        reference, file_name = Document._meta.get_field("reference").reader(), Document._meta.get_field("file_name").reader()
        title = Document._meta.get_field("title").reader()
        rows = ready.values_list("id", "series", "reference", "file_name", "title").iterator(chunk_size=1000)
        for pk, series, its_reference, its_file_name, its_title in rows:
            in_use[series or pk] = pk
            names = {str(pk), reference(pk, its_reference), file_name(pk, its_file_name), title(pk, its_title)}
            for name in names - {""}:
                named[name] = pk if name not in named else None
        for pk, series in there.filter(is_current=False).values_list("id", "series"):
            named.setdefault(str(pk), in_use.get(series or pk))
        return {name: document_id for name, document_id in named.items() if document_id is not None}

    def import_texts(self, texts: Iterable[CorpusText], collection_name: str, membership: Membership) -> int:
        return len(importing.import_texts(texts, collection_name, by=membership).documents)


def connect() -> None:
    sources.register(DocumentSources())
