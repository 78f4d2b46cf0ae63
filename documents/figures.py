"""What documents and their index count for the staff console (tenants/stats.py): numbers and times, nothing they say."""

from typing import Any

from django.db.models import Count, F, Min, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from documents.models import Document, Page
from search.models import LIVE_INDEX, Chunk, IndexEntry, Run, Terms
from tenants import stats

State = Document.State


def count() -> dict[str, Any]:
    """Fields of WorkspaceStats, canaries left out."""
    mine = Document.objects.filter(collection__is_canary=False)
    unfinished = Q(state__in=Document.UNFINISHED)
    counted = mine.aggregate(
        documents=Count("pk"),
        ready=Count("pk", filter=Q(state=State.READY)),
        failed=Count("pk", filter=Q(state=State.FAILED)),
        unfinished=Count("pk", filter=unfinished),
        oldest_unfinished_at=Min("created_at", filter=unfinished),
        bytes=Coalesce(Sum("size"), 0),
    )
    runs = {"runs_unfinished": Run.objects.exclude(state__in=Run.FINAL).count()}
    if not counted["ready"]:
        return counted | runs  # nothing is published
    ready = mine.filter(state=State.READY)
    published = ready.filter(pk__in=Terms.objects.values("document_id")).values("pk")
    written = Page.objects.filter(document=OuterRef("pk")).order_by().values("document").annotate(n=Count("pk")).values("n")
    short = ready.annotate(written=Coalesce(Subquery(written), 0)).filter(written__lt=F("pages"))
    return {
        **counted,
        **runs,
        "passages": Chunk.objects.filter(document__in=published).count(),
        "entries": IndexEntry.objects.filter(index_id=LIVE_INDEX, document_id__in=published).count(),
        "unsearchable": ready.exclude(pk__in=Terms.objects.values("document_id")).count(),
        "pages_missing": short.aggregate(missing=Coalesce(Sum(F("pages") - F("written")), 0))["missing"],
    }


def connect() -> None:
    stats.figures(count)
