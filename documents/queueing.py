"""The workspace's queue of documents: who is next, how far the batch has come, and whether it is paused.

A batch is what came since the queue was last empty. Refuses to know how a document is worked on, and what Redis holds.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from documents.models import Document, Queue
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.wording import counted

THE_QUEUE = 1
RATE_OVER = timedelta(minutes=5)  # long enough for a number that does not jump, short enough to follow other files
LEAST_FOR_A_RATE = timedelta(seconds=10)
SHOWN_FOR = timedelta(hours=1)  # how a batch ended


def first(number: int) -> list[UUID]:
    """The unfinished documents whose time has come that go first: what a person put in, then what a command did; each by age.

    Asked in two parts, both by the index of unfinished documents: ordered by both, all of them would be sorted for each job.
    """
    due = Q(retry_at=None) | Q(retry_at__lte=timezone.now())
    waiting = Document.objects.filter(due, state__in=Document.UNFINISHED).order_by("created_at").values_list("id", flat=True)
    found = list(waiting.filter(created_by_id__isnull=False)[:number])
    if len(found) < number:
        found += waiting.filter(created_by_id=None)[: number - len(found)]
    return found


def places(document_ids: Collection[UUID]) -> dict[UUID, int]:
    """The place in the queue, from 1, of those of them that wait in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, place FROM (SELECT id, row_number() OVER (ORDER BY created_by_id IS NULL, created_at, id) AS place "
            "FROM documents_document "
            "WHERE state = 'queued' AND (retry_at IS NULL OR retry_at <= now())) AS queue WHERE id = ANY(%s)",
            [list(document_ids)],
        )
        return dict(cursor.fetchall())


# ---------------------------------------------------------------- the batch


@dataclass(frozen=True, slots=True)
class Batch:
    """What came since the queue was last empty."""

    total: int
    done: int  # ended, in whatever way
    ready: int
    failed: int
    per_minute: float | None  # None: too few have ended to tell
    paused_at: datetime | None
    ended_at: datetime | None  # None: something is unfinished

    @property
    def unfinished(self) -> int:
        return self.total - self.done

    @property
    def cancelled(self) -> int:
        return self.done - self.ready - self.failed

    @property
    def in_words(self) -> str:
        """ "412 of 1,000 documents · 24 a minute · about 25 min"; without a rate, the first part alone."""
        said = [f"{self.done:,} of {counted(self.total, 'document')}"]
        if self.per_minute:
            said += [f"{self.per_minute:,.0f} a minute"] if self.per_minute >= 1 else []
            said.append(_about(self.unfinished / self.per_minute))
        return " · ".join(said)

    @property
    def is_recent(self) -> bool:
        """Ended so lately that whoever waited for it may want to know."""
        return self.ended_at is not None and timezone.now() - self.ended_at < SHOWN_FOR


def _about(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.0f} h"


def began(document_ids: Iterable[UUID], before: datetime) -> None:
    """These were put into the queue: if nothing else in it is older than `before`, they begin a batch.

    To be called once they are committed, and of its own: who puts in waits for nobody else's transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO documents_queue (id, began_at) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE "
            "SET began_at = excluded.began_at WHERE NOT EXISTS (SELECT FROM documents_document "
            "WHERE state IN ('queued', 'extracting', 'embedding') AND created_at < excluded.began_at AND id <> ALL(%s))",
            [THE_QUEUE, before, list(document_ids)],
        )


def batch(documents: QuerySet[Document]) -> Batch:
    """How far the batch has come, as far as it is among these documents."""
    queue, now = _queue(), timezone.now()
    since = queue.began_at or now
    recent = max(since, now - RATE_OVER)
    unfinished, ended = Q(state__in=Document.UNFINISHED), Q(finished_at__gte=since)
    worked = Q(state__in=[Document.State.READY, Document.State.FAILED])
    found = documents.aggregate(
        total=Count("pk", filter=unfinished | ended),
        done=Count("pk", filter=ended),
        ready=Count("pk", filter=ended & Q(state=Document.State.READY)),
        failed=Count("pk", filter=ended & Q(state=Document.State.FAILED)),
        recent=Count("pk", filter=worked & Q(finished_at__gte=recent)),
        first=Min("finished_at", filter=worked & Q(finished_at__gte=recent)),
        last=Max("finished_at", filter=ended),
    )
    # Since the first of them ended: what was before, such as a pause, says nothing about the files.
    took = now - found["first"] if found["first"] else timedelta(0)
    tells = took >= LEAST_FOR_A_RATE and found["recent"] > 1 and queue.paused_at is None
    rate = (found["recent"] - 1) / (took / timedelta(minutes=1)) if tells else None
    ended_at = found["last"] if found["total"] == found["done"] else None
    return Batch(found["total"], found["done"], found["ready"], found["failed"], rate, queue.paused_at, ended_at)


# ---------------------------------------------------------------- pausing


def is_paused() -> bool:
    return Queue.objects.filter(pk=THE_QUEUE, paused_at__isnull=False).exists()


@transaction.atomic
def pause() -> bool:
    """Begin nothing from now on; what is being worked on is finished. False when it was paused before."""
    Queue.objects.get_or_create(pk=THE_QUEUE)
    changed = Queue.objects.filter(pk=THE_QUEUE, paused_at=None).update(paused_at=timezone.now())
    if changed:
        record(Event.QUEUE_PAUSED)
    return bool(changed)


@transaction.atomic
def resume() -> bool:
    """Go on. False when it was not paused. Who resumes it sees to it that documents are queued (documents.jobs)."""
    changed = Queue.objects.filter(pk=THE_QUEUE, paused_at__isnull=False).update(paused_at=None)
    if changed:
        record(Event.QUEUE_RESUMED)
    return bool(changed)


def _queue() -> Queue:
    return Queue.objects.filter(pk=THE_QUEUE).first() or Queue(id=THE_QUEUE)
