"""A queue that stands still: jobs wait and no worker takes one. Every web process and worker looks, since the worker itself
may be what stopped. Refuses to know what the jobs do.
"""

import time
from datetime import UTC, datetime, timedelta

from django.core.cache import cache
from django.utils import timezone

from tenants.alarms import raise_alarm, settle
from tenants.jobs import queues, worker_is_listening
from tenants.keys import presence
from tenants.models import Alarm

ALONE = timedelta(minutes=5)  # where no worker is alive: a restart is over by then
BUSY = timedelta(hours=1)  # where one is: its job may be the largest text, which takes half of that
TAKEN = "job-taken"
SUBJECT = "the queue of jobs"


def note_taken() -> None:
    """A worker takes a job now. Outside of workspaces, as everything here."""
    cache.set(TAKEN, int(time.time()), None)


def stands_still_for() -> timedelta | None:
    """How long jobs have been waiting without one being taken, once that is too long; None while all is well."""
    oldest = []
    for queue in queues():
        jobs = [job for job in queue.get_jobs(0, 1) if job and job.enqueued_at]
        oldest += [job.enqueued_at for job in jobs]
    if not oldest:
        return None
    taken = datetime.fromtimestamp(int(cache.get(TAKEN, 0)), UTC)
    still = timezone.now() - max(taken, min(oldest))
    return still if still > (BUSY if worker_is_listening() else ALONE) else None


@presence.watches
def look() -> None:
    """Raise the alarm, or settle it once a job is taken again."""
    if stands_still_for():
        raise_alarm(Alarm.Kind.QUEUE, SUBJECT)
        return
    for alarm in Alarm.objects.filter(kind=Alarm.Kind.QUEUE, settled_at=None):
        settle(alarm, "Jobs are taken again.")
