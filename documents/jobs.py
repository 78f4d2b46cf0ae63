"""The background jobs of documents, and what brings back the ones that were lost. Holds no logic of its own."""

from contextlib import suppress
from uuid import UUID

from documents import access, erasing, ingestion, quotas, storage, trash
from documents.models import Document
from tenants import jobs
from tenants.errors import Refused
from tenants.sweeping import every, sweeper

INGEST_SECONDS = 12 * 3600  # a limit for the hung; 64 MB of text take about half an hour
ORPHAN_SECONDS = 3600
RECOUNT_SECONDS = 24 * 3600
EXPIRED_SECONDS = 3600


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
    """What was lost is queued again with each sweep; files are looked at hourly, counts daily."""
    queue_unfinished()
    if every(ORPHAN_SECONDS, "orphans"):
        storage.remove_orphans(set(Document.objects.values_list("stored_name", flat=True)))
    if every(RECOUNT_SECONDS, "recount"):
        quotas.recount()
        access.forget_former_members()
    if every(EXPIRED_SECONDS, "trash"):
        erasing.look_for_returned()
        with suppress(Refused):  # it must be kept
            trash.erase_expired()


def connect() -> None:
    sweeper(sweep)


def _job_id(document_id: UUID) -> str:
    return f"ingest-{document_id}"
