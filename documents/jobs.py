"""The background jobs of documents, and what brings back the ones that were lost. Holds no logic of its own."""

from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

from django.utils import timezone

from documents import access, arrivals, erasing, ingestion, ledger, queueing, quotas, storage, trash, versions
from documents.dispatch import queue_unfinished
from documents.models import Document
from tenants import jobs
from tenants.errors import Refused
from tenants.sweeping import every, sweeper

ORPHAN_SECONDS = 3600
RECOUNT_SECONDS = 24 * 3600
EXPIRED_SECONDS = 3600


@jobs.task
def ingest(document_id: str) -> None:
    if ingestion.ingest(UUID(document_id)):
        queue_unfinished(ended=UUID(document_id))


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
