"""What documents and their index count for the staff console (tenants/stats.py): numbers and times, nothing they say."""

from datetime import timedelta
from typing import Any

from django.db.models import Count, F, Min, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from documents import queueing, series
from documents.models import Document, Page, Stage
from search import indexes, indexing
from search.models import Chunk, Run, Terms
from tenants import stats
from tenants.models import WorkspaceStats

State = Document.State
MOVES_WITHIN = timedelta(minutes=45)  # less than tenants.stats.STUCK_AFTER, more than the largest text takes
INDEX_AT_LEAST_EVERY = timedelta(hours=1)  # a gap can come by itself, without a change of what may be found


def count(known: WorkspaceStats) -> dict[str, Any]:
    """Fields of WorkspaceStats, canaries left out. Documents and bytes are counted as quotas count them: every version, and
    what is in the trash.

    The index, which costs most, only when it changed, and hourly.
    """
    now, generation = timezone.now(), indexes.live().generation
    counted = _documents() | {"runs_unfinished": Run.objects.exclude(state__in=Run.FINAL).count()}
    counted_at = known.index_counted_at
    if known.index_generation == generation and counted_at is not None and abs(now - counted_at) < INDEX_AT_LEAST_EVERY:
        return counted
    return counted | _index() | {"index_generation": generation, "index_counted_at": now}


def _documents() -> dict[str, Any]:
    unfinished = Q(state__in=Document.UNFINISHED)
    kept = Document.objects.filter(collection__is_canary=False)
    counted = kept.aggregate(
        documents=Count("pk"),
        ready=Count("pk", filter=Q(state=State.READY, trashed_at=None, is_current=True)),
        unfinished=Count("pk", filter=unfinished),
        oldest_unfinished_at=Min("created_at", filter=unfinished),
        bytes=Coalesce(Sum("size"), 0),
    )
    counted["failed"] = series.listed(kept.filter(state=State.FAILED, trashed_at=None)).count()
    # Whoever paused it knows that it waits, and a long queue that moves is not stuck.
    moves = Stage.objects.filter(ended_at__gt=timezone.now() - MOVES_WITHIN).exists()
    return counted | {"oldest_unfinished_at": None} if moves or queueing.is_paused() else counted


def _index() -> dict[str, Any]:
    """Every passage of a published document has an entry, every ready document is published and has its pages."""
    ready = Document.objects.filter(collection__is_canary=False, state=State.READY, trashed_at=None, is_current=True)
    published = ready.filter(pk__in=Terms.objects.values("document_id")).values("pk")
    written = Page.objects.filter(document=OuterRef("pk")).order_by().values("document").annotate(n=Count("pk")).values("n")
    short = ready.annotate(written=Coalesce(Subquery(written), 0)).filter(written__lt=F("pages"))
    return {
        "passages": Chunk.objects.filter(document__in=published).count(),
        "entries": indexing.held(indexes.live(), published),
        "unsearchable": ready.exclude(pk__in=Terms.objects.values("document_id")).count(),
        "pages_missing": short.aggregate(missing=Coalesce(Sum(F("pages") - F("written")), 0))["missing"],
    }


def connect() -> None:
    stats.figures(count)
