"""The background jobs of documents, and what brings back the ones that were lost. Holds no logic of its own."""

import logging
from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

from django.utils import timezone
from redis.exceptions import RedisError

from documents import access, arrivals, erasing, ingestion, ledger, queueing, quotas, storage, trash, versions
from documents.models import Document
from tenants import jobs
from tenants.errors import Refused
from tenants.privacy import describe_exception
from tenants.sweeping import every, sweeper

logger = logging.getLogger(__name__)

INGEST_SECONDS = 12 * 3600  # a limit for the hung; 64 MB of text take about half an hour
ORPHAN_SECONDS = 3600
RECOUNT_SECONDS = 24 * 3600
EXPIRED_SECONDS = 3600


@jobs.task
def ingest(document_id: str) -> None:
    if ingestion.ingest(UUID(document_id)):
        queue_unfinished(ended=UUID(document_id))


def enqueue_ingest(document_id: UUID) -> None:
    """Queue the work on a document once the transaction commits."""
    jobs.enqueue(
        "documents.jobs.ingest",
        str(document_id),
        job_id=_job_id(document_id),
        queue="ingest",
        timeout=INGEST_SECONDS,
    )


def queue_unfinished(*, ended: UUID | None = None) -> int:
    """Queue the first documents (`queueing.first`) that are not final and that no worker has, as many as are missing from the
    workspace's share of the queue; how many they were. `ended`: the one whose job asks, which needs its place no more.

    The rest wait in the database, which is the truth: a workspace with ten thousand files has no more jobs in the queue than
    one with three, each that ends is followed by one at the queue's end, and so the workspaces take turns. What Redis
    forgets comes back with the next upload or sweep; without Redis it waits.
    """
    if queueing.is_paused():
        return 0
    try:
        share = 1 + max(1, jobs.workers())  # work for every worker, and one more, so that none waits for the next
        waiting = queueing.first(share)
        held = jobs.held("ingest")  # after the rows: what is uploaded in between is not queued twice
    except RedisError as error:
        logger.warning("documents wait for the sweeper: %s", describe_exception(error))
        return 0
    free = share - len(held - {_job_id(ended)} if ended else held)
    lost = [document_id for document_id in waiting if _job_id(document_id) not in held][: max(0, free)]
    for document_id in lost:
        enqueue_ingest(document_id)
    return len(lost)


def retry(document_ids: Collection[UUID]) -> int:
    """Begin again with those of them that can be, as the ledger says; how many there were."""
    retried = ledger.retry_all(document_ids)
    if retried:
        begin_again(retried)
    return len(retried)


def read_again(document_ids: Collection[UUID]) -> int:
    """Read those of them anew of which pages could not be read, as the ledger says; how many there were."""
    found = ledger.read_again(document_ids)
    if found:
        begin_again(found)
    return len(found)


def cancel(document_ids: Collection[UUID]) -> int:
    """Cancel those of them that have not ended, and let others have their place in the queue; how many there were."""
    cancelled = ledger.cancel_all(document_ids)
    queue_unfinished()
    return cancelled


def begin_again(document_ids: Collection[UUID]) -> None:
    """Of documents that are queued again: they are a batch of their own, unless one is under way."""
    queueing.began(document_ids, timezone.now())
    queue_unfinished()


def sweep() -> None:
    """What was lost is queued again with each sweep; files are looked at hourly, counts and names daily."""
    queue_unfinished()
    if every(ORPHAN_SECONDS, "orphans"):
        arrivals.drop_abandoned()
        storage.remove_orphans({*Document.objects.values_list("stored_name", flat=True), *arrivals.stored_names()})
    if every(RECOUNT_SECONDS, "recount"):
        quotas.recount()
        access.forget_former_members()
    if every(RECOUNT_SECONDS, "names"):
        versions.fill_every_name()
    if every(EXPIRED_SECONDS, "trash"):
        erasing.look_for_returned()
        with suppress(Refused):  # it must be kept
            trash.erase_expired()


def connect() -> None:
    sweeper(sweep)


def _job_id(document_id: UUID) -> str:
    return f"ingest-{document_id}"
