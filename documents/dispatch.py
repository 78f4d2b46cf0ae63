"""Puts documents that wait into the workers' queue, as many as are the workspace's share. Knows ids, and not what is done
with them.
"""

import logging
from uuid import UUID

from redis.exceptions import RedisError

from documents import queueing
from tenants import jobs
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

INGEST_SECONDS = 12 * 3600  # a limit for the hung; 64 MB of text take about half an hour


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


def _job_id(document_id: UUID) -> str:
    return f"ingest-{document_id}"
