"""What waits in the queues, runs and failed, for staff; failed jobs are tried again or removed. Knows ids, never content."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from redis.exceptions import RedisError
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job

from tenants import jobs, stats
from tenants.errors import Refused
from tenants.models import Tenant, WorkspaceStats

SHOWN = 50  # of each kind
FRAMES = 3  # innermost, of where a job failed


@dataclass(frozen=True)
class WorkerSeen:
    name: str
    alive: bool
    since: datetime | None
    job: str  # its task; empty when idle


@dataclass(frozen=True)
class JobSeen:
    id: str
    queue: str
    task: str
    workspace: Tenant | None  # None: the installation's own, or one that is gone
    since: datetime | None  # when it started; of a failed one, when it failed
    worker_alive: bool = False
    error: str = ""  # type and place


@dataclass(frozen=True)
class Seen:
    """All of it at one moment. `more_failed` counts those not shown."""

    workers: list[WorkerSeen]
    waiting: dict[str, int]  # by queue
    running: list[JobSeen]
    failed: list[JobSeen]
    more_failed: int
    stuck: list[WorkspaceStats]

    @property
    def workers_alive(self) -> int:
        return sum(worker.alive for worker in self.workers)

    @property
    def failed_total(self) -> int:
        return len(self.failed) + self.more_failed


def look() -> Seen:
    queues = jobs.queues()
    running = [(queue, key) for queue in queues for key in queue.started_job_registry.get_job_ids(cleanup=False)]
    failed = [(queue, key) for queue in queues for key in failed_keys(queue, SHOWN)][:SHOWN]
    found = [(queue, key, _fetch(queue, key)) for queue, key in (*running[:SHOWN], *failed)]
    workspaces = Tenant.objects.in_bulk({tenant for _, _, job in found if (tenant := _tenant_id(job)) is not None})
    described = [_describe(queue, key, job, workspaces) for queue, key, job in found]
    return Seen(
        workers=_workers(queues),
        waiting={queue.name: queue.count for queue in queues},
        running=described[: len(running[:SHOWN])],
        failed=described[len(running[:SHOWN]) :],
        more_failed=sum(queue.connection.zcard(queue.failed_job_registry.key) for queue in queues) - len(failed),
        stuck=list(
            WorkspaceStats.objects.filter(oldest_unfinished_at__lt=timezone.now() - stats.STUCK_AFTER)
            .select_related("tenant")
            .order_by("oldest_unfinished_at")[:SHOWN]
        ),
    )


def failed_keys(queue: Any, most: int = 0) -> list[str]:
    """The ids in Redis of the jobs that failed, the latest first; all of them, or so many at most."""
    members = queue.connection.zrange(queue.failed_job_registry.key, 0, most - 1, desc=True)
    return [member.decode(errors="replace") for member in members]


def failed_by_workspace() -> Counter[UUID] | None:
    """How many failed jobs each workspace has; None while Redis is away, which knows."""
    found: Counter[UUID] = Counter()
    try:
        for _, key in _all_failed():
            with suppress(ValueError):
                found[UUID(key.partition("-")[0])] += 1
    except RedisError:
        return None
    return found


def retry(key: str) -> None:
    """Queue a failed job again the way the product queues it. Raises Refused when it is no job of Cloister's."""
    stats.mark_due(_retry(_queue_of(key), key))


def remove(key: str) -> None:
    """Forget a failed job. What the database says is unfinished is queued again all the same."""
    stats.mark_due(_remove(_queue_of(key), key))


def retry_all() -> tuple[int, int]:
    """Returns how many are queued again, and how many could not be."""
    again, refused, concerned = 0, 0, set[UUID]()
    for queue, key in list(_all_failed()):
        try:
            concerned |= _retry(queue, key)
        except Refused:
            refused += 1
        else:
            again += 1
    stats.mark_due(concerned)
    return again, refused


def remove_all() -> int:
    found = list(_all_failed())
    stats.mark_due(set().union(*(_remove(queue, key) for queue, key in found)))
    return len(found)


def _all_failed() -> Iterator[tuple[Any, str]]:
    return ((queue, key) for queue in jobs.queues() for key in failed_keys(queue))


def _queue_of(key: str) -> Any:
    for queue in jobs.queues():
        if queue.connection.zscore(queue.failed_job_registry.key, key) is not None:
            return queue
    raise Refused("This job is not among the failed ones any more.")


def _retry(queue: Any, key: str) -> set[UUID]:
    """The workspace it belongs to, if to one."""
    job = _fetch(queue, key)
    if job is None or job.func_name not in jobs.tasks() or not jobs.are_ids(job.args):
        raise Refused("This job names no task of Cloister, so it cannot be tried again. Remove it.")
    tenant = _tenant_id(job)
    prefix = jobs.job_key("", tenant)
    if not key.startswith(prefix):
        raise Refused("This job's id is not its workspace's, so it cannot be tried again. Remove it.")
    concerned = _forget(queue, key, job)
    jobs.enqueue_again(job, tenant, key.removeprefix(prefix))
    return concerned


def _remove(queue: Any, key: str) -> set[UUID]:
    return _forget(queue, key, _fetch(queue, key))


def _forget(queue: Any, key: str, job: Job | None) -> set[UUID]:
    queue.connection.zrem(queue.failed_job_registry.key, key)
    if job is None:
        queue.connection.delete(Job.key_for(key))
    else:
        job.delete(remove_from_queue=False)
    tenant = _tenant_id(job)
    return set() if tenant is None else {tenant}


def _fetch(queue: Any, key: str) -> Job | None:
    """The job; None when there is none, or what is there cannot be read: anybody may have written it."""
    try:
        job = queue.job_class.fetch(key, connection=queue.connection, serializer=queue.serializer)
        return job if isinstance(job.func_name, str) and isinstance(job.meta, dict) and job.args is not None else None
    except NoSuchJobError:
        return None
    except RedisError:
        raise
    except Exception:
        return None


def _tenant_id(job: Job | None) -> UUID | None:
    try:
        return UUID(str(job.meta.get("tenant"))) if job is not None else None
    except ValueError:
        return None


def _describe(queue: Any, key: str, job: Job | None, workspaces: dict[UUID, Tenant]) -> JobSeen:
    if job is None:
        return JobSeen(key, queue.name, "cannot be read", None, None)
    tenant = _tenant_id(job)
    result = job.latest_result() if job.is_failed else None
    return JobSeen(
        id=key,
        queue=queue.name,
        task=job.func_name,
        workspace=None if tenant is None else workspaces.get(tenant),
        since=_aware(job.ended_at if job.is_failed else job.started_at),
        worker_alive=jobs.worker_is_alive(job.worker_name),
        error=" < ".join((result.exc_string or "").split(" < ")[:FRAMES]) if result else "",
    )


def _workers(queues: list[Any]) -> list[WorkerSeen]:
    listening = queues[0]
    found = Worker.all(connection=listening.connection, serializer=listening.serializer)
    return [
        WorkerSeen(worker.name, jobs.worker_is_alive(worker.name), _aware(worker.birth_date), _task_of(listening, worker))
        for worker in sorted(found, key=lambda worker: worker.name)
    ]


def _task_of(queue: Any, worker: Worker) -> str:
    key = worker.get_current_job_id()
    job = _fetch(queue, key) if key else None
    return job.func_name if job is not None else ""


def _aware(moment: datetime | None) -> datetime | None:
    """RQ's times are UTC, with or without saying so."""
    return moment if moment is None or timezone.is_aware(moment) else timezone.make_aware(moment)
