"""The background jobs of documents, and what brings back the ones that were lost. Holds no logic of its own."""

import time
from uuid import UUID

from documents import access, ingestion, quotas, storage
from documents.models import Document
from tenants import jobs
from tenants.context import current_tenant

INGEST_SECONDS = 12 * 3600  # a limit for the hung; 64 MB of text take about half an hour
ORPHAN_INTERVAL_SECONDS = 3600
RECOUNT_INTERVAL_SECONDS = 24 * 3600

_orphans_removed: dict[UUID, float] = {}
_recounted: dict[UUID, float] = {}


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
    unfinished = Document.objects.filter(state__in=Document.UNFINISHED).order_by("created_at")
    waiting = list(unfinished.values_list("id", flat=True))
    held = jobs.held("ingest")  # after the rows: what is uploaded in between is not queued twice
    lost = [document_id for document_id in waiting if _job_id(document_id) not in held]
    for document_id in lost:
        enqueue_ingest(document_id)
    return len(lost)


def sweep() -> None:
    """Run by the worker in every workspace, at its start and every half minute; files are looked at hourly, counts daily."""
    queue_unfinished()
    tenant = current_tenant().id
    if time.monotonic() - _orphans_removed.get(tenant, float("-inf")) > ORPHAN_INTERVAL_SECONDS:
        storage.remove_orphans(set(Document.objects.values_list("stored_name", flat=True)))
        _orphans_removed[tenant] = time.monotonic()
    if time.monotonic() - _recounted.get(tenant, float("-inf")) > RECOUNT_INTERVAL_SECONDS:
        quotas.recount()
        access.forget_former_members()
        _recounted[tenant] = time.monotonic()


def connect() -> None:
    jobs.on_worker_start(sweep)


def _job_id(document_id: UUID) -> str:
    return f"ingest-{document_id}"
