"""Tells `search` what documents are called and where they are shown, through the registry it keeps for that."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from documents import access, importing, models
from documents.models import Document, Page
from search import sources
from search.models import Terms
from search.sources import CollectionName, CorpusText, FieldName, Place, Source, addresses
from tenants.database import connection
from tenants.models import Membership

COLLECTIONS = f"""
SELECT c.id, c.name, f.id, f.name, f.kind FROM documents_collection c
LEFT JOIN documents_field f ON f.collection_id = c.id AND f.filterable
WHERE {access.VISIBLE} ORDER BY f.position, f.id
"""  # noqa: S608  # fixed text


class DocumentSources:
    """Implements search.sources.Sources; each method takes a fixed number of queries."""

    def describe(self, ids: Iterable[UUID], collections: Collection[UUID]) -> dict[UUID, Source]:
        return {source.id: source for source, *_ in self._rows(ids, (), collections)}

    def located(self, places: Iterable[Place], collections: Collection[UUID]) -> dict[Place, tuple[Source, str]]:
        pages = {Page.identity(*place): place for place in places}
        label = Page._meta.get_field("label").reader()
        known: dict[UUID, Source] = {}
        labels: dict[UUID, str] = {}
        for source, page, its_label in self._rows({document for document, _ in pages.values()}, pages, collections):
            known[source.id] = source
            if page is not None:
                labels[page] = label(page, its_label)
        return {place: (known[place[0]], labels.get(page, "")) for page, place in pages.items() if place[0] in known}

    def _rows(
        self, ids: Iterable[UUID], pages: Iterable[UUID], collections: Collection[UUID]
    ) -> Iterator[tuple[Source, UUID | None, Any]]:
        """Documents, each with every one of these pages and its encrypted label, or with none; in one query."""
        title, form = Document._meta.get_field("title").reader(), Document._meta.get_field("format").reader()
        read_name = models.Collection._meta.get_field("name").reader()
        names: dict[UUID, str] = {}
        address = addresses("document")
        with connection.cursor() as cursor:  # arrays: a parameter for each id would end at 65,535
            cursor.execute(
                "SELECT d.id, d.title, d.format, c.id, c.name, p.id, p.label FROM documents_document d "
                "JOIN documents_collection c ON c.id = d.collection_id "
                "LEFT JOIN documents_page p ON p.id = ANY(%s) AND p.document_id = d.id "
                "WHERE d.id = ANY(%s) AND c.id = ANY(%s) AND d.trashed_at IS NULL",
                [list(pages), list(ids), list(collections)],
            )
            rows = cursor.fetchall()
        for pk, its_title, its_format, collection, name, page, label in rows:
            if collection not in names:
                names[collection] = read_name(collection, name)
            source = Source(pk, title(pk, its_title), address(pk), collection, names[collection], form(pk, its_format))
            yield source, page, label

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
