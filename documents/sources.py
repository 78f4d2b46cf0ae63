"""Tells `search` what documents are called and where they are shown, through the registry it keeps for that."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.urls import reverse

from documents import access, importing, models
from documents.models import Document, Page
from search import sources
from search.sources import CollectionName, CorpusText, FieldName, Source
from tenants.database import connection
from tenants.models import Membership


class DocumentSources:
    """Implements search.sources.Sources; each method takes a fixed number of queries."""

    def describe(self, ids: Iterable[UUID], collections: Collection[UUID]) -> dict[UUID, Source]:
        title, form = Document._meta.get_field("title").reader(), Document._meta.get_field("format").reader()
        name = models.Collection._meta.get_field("name").reader()
        with connection.cursor() as cursor:  # one array: a parameter for each id would end at 65,535
            cursor.execute(
                "SELECT d.id, d.title, d.format, c.id, c.name FROM documents_document d "
                "JOIN documents_collection c ON c.id = d.collection_id "
                "WHERE d.id = ANY(%s) AND c.id = ANY(%s) AND d.trashed_at IS NULL",
                [list(ids), list(collections)],
            )
            rows = cursor.fetchall()
        return {
            pk: Source(
                id=pk,
                title=title(pk, its_title),
                url=reverse("document", urlconf=settings.WORKSPACE_URLCONF, args=[pk]),
                collection_id=collection_id,
                collection_name=name(collection_id, its_collection),
                format=form(pk, its_format),
            )
            for pk, its_title, its_format, collection_id, its_collection in rows
        }

    def hidden(self, ids: Iterable[UUID], collections: Collection[UUID]) -> set[UUID]:
        elsewhere = Document.objects.filter(pk__in=list(ids), trashed_at=None).exclude(collection_id__in=collections)
        return set(elsewhere.values_list("id", flat=True))

    def page_labels(self, places: Iterable[tuple[UUID, int]]) -> dict[tuple[UUID, int], str]:
        wanted = {Page.identity(document_id, number): (document_id, number) for document_id, number in places}
        read = Page._meta.get_field("label").reader()
        with connection.cursor() as cursor:  # on the way of every search: the ORM takes twice as long
            cursor.execute("SELECT id, label FROM documents_page WHERE id = ANY(%s)", [list(wanted)])
            return {wanted[pk]: read(pk, label) for pk, label in cursor.fetchall()}

    def collections(self, membership: Membership) -> list[CollectionName]:
        """With their fields in one query: it is on the way of every search."""
        name, field_name = models.Collection._meta.get_field("name").reader(), models.Field._meta.get_field("name").reader()
        names: dict[UUID, str] = {}
        fields: dict[UUID, list[FieldName]] = {}
        rows = access.visible_collections(membership).order_by("fields__position", "fields__id")
        columns = ("id", "name", "fields__id", "fields__name", "fields__kind", "fields__filterable")
        for pk, its_name, field, its_field, kind, filterable in rows.values_list(*columns):
            if pk not in names:
                names[pk], fields[pk] = name(pk, its_name), []
            if filterable:
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
        ready = Document.objects.filter(state=Document.State.READY, trashed_at=None, collection_id__in=collections)
        reference, file_name = Document._meta.get_field("reference").reader(), Document._meta.get_field("file_name").reader()
        title = Document._meta.get_field("title").reader()
        rows = ready.values_list("id", "reference", "file_name", "title").iterator(chunk_size=1000)
        for pk, its_reference, its_file_name, its_title in rows:
            names = {str(pk), reference(pk, its_reference), file_name(pk, its_file_name), title(pk, its_title)}
            for name in names - {""}:
                named[name] = pk if name not in named else None
        return {name: document_id for name, document_id in named.items() if document_id is not None}

    def import_texts(self, texts: Iterable[CorpusText], collection_name: str, membership: Membership) -> int:
        return len(importing.import_texts(texts, collection_name, by=membership).documents)


def connect() -> None:
    sources.register(DocumentSources())
