"""The background jobs of documents, and what brings back the ones that were lost. Holds no logic of its own."""

import time
from uuid import UUID

from documents import ingestion, storage
from documents.models import Document
from tenants import jobs
from tenants.context import current_tenant

INGEST_SECONDS = 12 * 3600  # a limit for the hung; 64 MB of text take about half an hour
ORPHAN_INTERVAL_SECONDS = 3600

_orphans_removed: dict[UUID, float] = {}


@jobs.task
def ingest(document_id: str) -> None:
    ingestion.ingest(UUID(document_id))


def enqueue_ingest(document_id: UUID) -> None:
    """Queue the work on a document once the transaction commits."""
    jobs.enqueue(
        "documents.jobs.ingest",
        str(document_id),
        job_id=_job_id(document_id),
        queue="ingest",
        timeout=INGEST_SECONDS,
    )


def queue_unfinished() -> int:
    """Queue again every document that is not final and that no worker has: the database is the truth, Redis may forget."""
    queued = 0
    unfinished = Document.objects.filter(state__in=Document.UNFINISHED).order_by("created_at")
    for document_id in unfinished.values_list("id", flat=True):
        if not jobs.in_flight(_job_id(document_id), "ingest"):
            enqueue_ingest(document_id)
            queued += 1
    return queued


def sweep() -> None:
    """Run by the worker in every workspace, at its start and every minute."""
    queue_unfinished()
    tenant = current_tenant().id
    if time.monotonic() - _orphans_removed.get(tenant, float("-inf")) > ORPHAN_INTERVAL_SECONDS:
        storage.remove_orphans(set(Document.objects.values_list("stored_name", flat=True)))
        _orphans_removed[tenant] = time.monotonic()


def connect() -> None:
    jobs.on_worker_start(sweep)


def _job_id(document_id: UUID) -> str:
    return f"ingest-{document_id}"
