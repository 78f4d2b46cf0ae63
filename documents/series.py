"""Which rows are versions of one document: the first gives the series its id, and one of them is current. Only asks."""

from collections.abc import Iterable
from uuid import UUID

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
    series = set(Document.objects.filter(pk__in=wanted).values_list(Coalesce("series", "pk"), flat=True))
    found = Document.objects.filter(Q(pk__in=series) | Q(series__in=series)).values_list("id", flat=True)
    return list(dict.fromkeys([*wanted, *found]))


def with_versions(document_id: UUID) -> str:
    """ ", with all 3 versions": what a sentence adds about a document that goes or comes back; empty where there is one."""
    number = len(with_all([document_id]))
    return f", with all {number:,} versions" if number > 1 else ""


def listed(documents: QuerySet[Document]) -> QuerySet[Document]:
    """Of each series the current one, and the newest while it is worked on or when that went wrong."""
    newer = Document.objects.filter(series=Coalesce(OuterRef("series"), OuterRef("pk")), version__gt=OuterRef("version"))
    unready = Q(is_current=False) & ~Q(state=State.READY) & ~Exists(newer)
    return documents.filter(Q(is_current=True) | unready)


def locked(document_id: UUID) -> list[Document]:
    """Every version of its series, locked in the order in which all who lock several do; empty when it is gone."""
    series = Document.objects.filter(pk=document_id).values_list(Coalesce("series", "pk"), flat=True).first()
    if series is None:
        return []
    return list(of_series(series).select_for_update().order_by("pk"))


def history(document: Document, among: QuerySet[Document]) -> list[Document]:
    """Every version that may be seen, the newest first."""
    series = document.series or document.pk
    return list(among.filter(Q(pk=series) | Q(series=series)).order_by("-version", "-created_at"))
