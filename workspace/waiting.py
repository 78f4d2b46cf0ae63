"""Waiting for background work from a command: a worker does it where one listens, otherwise this process does."""

import time
from collections.abc import Callable

from django.db.models import Count

from documents import queueing
from documents.models import Collection, Document
from tenants.database import connection
from tenants.errors import Refused
from tenants.jobs import QUEUES, queues, worker_is_listening
from tenants.worker import new_worker

POLL_SECONDS = 2.0
JOBS_AT_A_TIME = 20  # between two reports of progress


def work_until(done: Callable[[], bool], *, report: Callable[[], None], comes_back: Callable[[], bool] = lambda: False) -> None:
    """Wait until `done()`, while a worker works; where none listens, do its work in this process.

    `comes_back()` says whether something that is in no queue will be put there by itself. `report()` is called every two
    seconds. The connection's workspace is as before afterwards.
    """
    before = connection.tenant
    while not done():
        if worker_is_listening():
            time.sleep(POLL_SECONDS)
        else:
            new_worker().work(burst=True, max_jobs=JOBS_AT_A_TIME, logging_level="WARNING")
            connection.set_tenant(before)
            if not done() and not any(len(queue) for queue in queues()):
                if comes_back():
                    time.sleep(POLL_SECONDS)
                    continue
                raise Refused(f"Nothing is left in the queues ({', '.join(QUEUES)}) and the work is not done.")
        report()


def states(collection: Collection) -> dict[str, int]:
    """How many documents of a collection are in which state."""
    counted = Document.objects.filter(collection=collection).order_by().values_list("state").annotate(Count("id"))
    return dict(sorted(counted))


def failed(collection: Collection) -> list[dict[str, str]]:
    """Which documents of a collection failed, why, and what to do."""
    found = Document.objects.filter(collection=collection, state=Document.State.FAILED).order_by("created_at")
    return [
        {"name": document.reference or document.file_name, "reason": document.reason,
         "message": f"{document.what_happened} {document.what_to_do}"}
        for document in found
    ]  # fmt: skip


def until_final(collection: Collection, say: Callable[[str], None]) -> None:
    """Until no document of the collection is under way."""

    def unfinished() -> int:
        if queueing.is_paused():
            raise Refused("The work on this workspace's documents is paused: resume it on its documents page, then try again.")
        return sum(count for state, count in states(collection).items() if state in Document.UNFINISHED)

    work_until(
        lambda: unfinished() == 0,
        report=lambda: say(f"{unfinished()} documents under way"),
        comes_back=lambda: Document.objects.filter(collection=collection, retry_at__isnull=False).exists(),
    )
