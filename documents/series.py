"""Which rows are versions of one document: the first gives the series its id, and one of them is current. Only asks."""

from collections import defaultdict
from collections.abc import Container, Iterable
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from documents.models import Document

State = Document.State


def of_series(series: UUID) -> QuerySet[Document]:
    """Every version, the newest first."""
    return Document.objects.filter(Q(pk=series) | Q(series=series)).order_by("-version", "id")


def with_all(ids: Iterable[UUID]) -> list[UUID]:
    """These documents and every other version of each."""
    wanted = list(ids)
    with connection.cursor() as cursor:  # an array: a parameter for each id would end at 65,535
        cursor.execute(
            "WITH named AS (SELECT DISTINCT coalesce(series, id) AS series FROM documents_document WHERE id = ANY(%s)) "
            "SELECT d.id FROM documents_document d JOIN named ON d.id = named.series "
            "UNION ALL SELECT d.id FROM documents_document d JOIN named ON d.series = named.series",
            [wanted],
        )
        return list(dict.fromkeys([*wanted, *(pk for (pk,) in cursor)]))


def with_versions(document: Document) -> str:
    """ ", with all 3 versions": what a sentence adds about a document that goes or comes back; empty where there is one."""
    number = 1 if document.was_never_in_use else len(with_all([document.pk]))
    return f", with all {number:,} versions" if number > 1 else ""


def listed(documents: QuerySet[Document]) -> QuerySet[Document]:
    """Of each series the current one, and the newest while it is worked on or when that went wrong."""
    there = Document.objects.filter(trashed_at=None)
    newer = there.filter(series=Coalesce(OuterRef("series"), OuterRef("pk")), version__gt=OuterRef("version"))
    unready = Q(is_current=False) & ~Q(state=State.READY) & ~Exists(newer)
    return documents.filter(Q(is_current=True) | unready)


def once(trashed: QuerySet[Document]) -> QuerySet[Document]:
    """Of what lies in the trash each document once: the current version, or the newest of those that went there alone."""
    series = Coalesce(OuterRef("series"), OuterRef("pk"))
    beside = Document.objects.filter(Q(pk=series) | Q(series=series), trashed_at__isnull=False)
    better = beside.filter(Q(is_current=True) | Q(version__gt=OuterRef("version")))
    return trashed.filter(Q(is_current=True) | ~Exists(better))


def meant(named: Container[UUID], versions: Iterable[Document]) -> list[Document]:
    """Of all versions of some documents those that whoever throws these away means: every one of a document.

    By a version that never was in use only that itself, and those before it that ended no better, which lists do not show.
    """
    rows = list(versions)
    whole = {of(row) for row in rows if row.pk in named and not row.was_never_in_use}
    alone: defaultdict[UUID, int] = defaultdict(int)
    for row in rows:
        if row.pk in named:
            alone[of(row)] = max(alone[of(row)], row.version)
    return [
        row
        for row in rows
        if of(row) in whole
        or row.pk in named
        or (row.was_never_in_use and not row.is_unfinished and row.version < alone[of(row)])
    ]


def of(document: Document) -> UUID:
    """The id of its series."""
    return document.series or document.pk


def on_their_way(ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Later versions of these documents that are not ready, or not any more; each with the one of these it comes after."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT v.id, d.id FROM documents_document d "
            "JOIN documents_document v ON v.series = coalesce(d.series, d.id) AND v.version > d.version "
            "WHERE d.id = ANY(%s) AND v.state <> 'ready' AND v.trashed_at IS NULL",
            [list(ids)],
        )
        return dict(cursor.fetchall())


def locked(document_id: UUID) -> list[Document]:
    """Every version of its series, locked in the order in which all who lock several do; empty when it is gone.

    One of us at a time, before we look: whoever waited for the rows alone would not see the version that came meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('series ' || current_schema() || series::text, 0)), series "
            "FROM (SELECT coalesce(series, id) AS series FROM documents_document WHERE id = %s) AS named",
            [document_id],
        )
        row = cursor.fetchone()
    return list(of_series(row[1]).select_for_update().order_by("pk")) if row else []


def history(document: Document, among: QuerySet[Document]) -> list[Document]:
    """Every version that may be seen, the newest first."""
    series = of(document)
    return list(among.filter(Q(pk=series) | Q(series=series)).order_by("-version", "-created_at"))
