"""Background jobs bound to a workspace: queued through RQ with a tenant in every job, and run by name.

Redis is not trusted: a job runs only a function registered here with `@task`, with ids as its arguments, inside the
tenant that the job names (worker.py). The database is the truth: what Redis loses, sweepers queue again (sweeping.py).
"""

import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import django_rq
from django.db import DatabaseError, transaction
from redis.exceptions import RedisError
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus

from tenants import stats
from tenants.context import current_tenant
from tenants.models import Tenant
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

QUEUES = ("default", "ingest")  # in order of priority
PUBLIC = "public"
RESULT_SECONDS = 300
RETRY_SECONDS = 3600  # for a failed job that does not say how long it may take

_tasks: dict[str, Callable[..., Any]] = {}


def task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Allow jobs to run `function`, under its dotted name."""
    _tasks[f"{function.__module__}.{function.__qualname__}"] = function
    return function


def registered(name: str) -> Callable[..., Any]:
    """The task of that dotted name. Raises PermissionError for whatever else a job may name."""
    try:
        return _tasks[name]
    except KeyError:
        raise PermissionError(f"{name} is not a registered task") from None


def queues(names: Sequence[str] = QUEUES) -> list[Any]:
    """All queues, or those named, in order of priority."""
    return [django_rq.get_queue(name) for name in names]


# ---------------------------------------------------------------- putting jobs in


def job_key(job_id: str, tenant: UUID | None = None) -> str:
    """The id in Redis: prefixed with the workspace, so that no workspace can name another's job."""
    return f"{tenant.hex if tenant else PUBLIC}-{job_id}"


def enqueue(function: str, *args: str | int, job_id: str, queue: str = "default", timeout: int = 3600) -> str:
    """Queue a registered task for the current workspace once the transaction commits. Returns the id in Redis."""
    tenant = current_tenant()
    transaction.on_commit(partial(_note_queued, tenant))
    return _enqueue(tenant.id, function, args, job_id, queue, timeout)


def _note_queued(tenant: Tenant) -> None:
    """A lost job is looked for where something happened. After the commit: a transaction may belong to one workspace."""
    try:
        stats.note_queued(tenant)
    except DatabaseError as error:  # the hourly sweep finds it too
        logger.warning("activity could not be noted: %s", describe_exception(error))


def enqueue_public(function: str, *args: str | int, job_id: str, queue: str = "default", timeout: int = 600) -> str:
    """Queue a registered task that works on the installation, not inside a workspace (provisioning)."""
    return _enqueue(None, function, args, job_id, queue, timeout)


def _enqueue(tenant: UUID | None, function: str, args: tuple, job_id: str, queue: str, timeout: int) -> str:
    if not are_ids(args):
        raise TypeError("a job's arguments are ids: strings or integers, never content")
    key = job_key(job_id, tenant)

    def put() -> None:
        """What asked for the job is committed: without Redis it waits for a sweeper, instead of failing whoever asked."""
        try:
            django_rq.get_queue(queue).original_enqueue_call(
                function,
                args=args,
                job_id=key,
                timeout=timeout,
                result_ttl=RESULT_SECONDS,
                failure_ttl=7 * 24 * 3600,
                description=f"{function} {key}",
                meta={"tenant": str(tenant) if tenant else PUBLIC},
            )
        except RedisError as error:
            logger.warning("%s waits for the sweeper: %s", key, describe_exception(error))

    transaction.on_commit(put)
    return key


def enqueue_again(job: Job, tenant: UUID | None, job_id: str) -> None:
    """Queue a job that failed as it was queued before; for staff (tenants/failed_jobs.py has checked what it names)."""
    _enqueue(tenant, job.func_name, tuple(job.args), job_id, job.origin, int(job.timeout or RETRY_SECONDS))


def are_ids(args: Sequence[Any]) -> bool:
    """What a job's arguments may be."""
    return all(isinstance(arg, str | int) for arg in args)


def tasks() -> frozenset[str]:
    """The dotted names jobs may call."""
    return frozenset(_tasks)


# ---------------------------------------------------------------- what became of them


def in_flight(job_id: str, queue: str = "ingest") -> bool:
    """Whether the current workspace's job waits in its queue or runs in a worker that is alive."""
    return is_in_flight(job_key(job_id, current_tenant().id), queue)


def is_in_flight(key: str, queue_name: str) -> bool:
    queue = django_rq.get_queue(queue_name)
    try:
        job = queue.job_class.fetch(key, connection=queue.connection, serializer=queue.serializer)
        status = job.get_status(refresh=False)
    except (NoSuchJobError, ValueError):
        return False
    if status == JobStatus.STARTED:
        return worker_is_alive(job.worker_name)
    # the list is asked, not the status: a worker killed between taking a job and starting it leaves the status behind
    return status == JobStatus.QUEUED and queue.connection.lpos(queue.key, key) is not None


def held(queue_name: str = "ingest") -> frozenset[str]:
    """The current workspace's job ids, as given to `enqueue`, that wait or run: `in_flight` for many, asked once."""
    queue, prefix = django_rq.get_queue(queue_name), job_key("", current_tenant().id)
    waiting = [key for key in queue.get_job_ids() if key.startswith(prefix)]  # first: what moves on meanwhile is seen twice
    started = (member.decode().partition(":")[0] for member in queue.connection.zrange(queue.started_job_registry.key, 0, -1))
    running = [key for key in started if key.startswith(prefix) and is_in_flight(key, queue_name)]
    return frozenset(key.removeprefix(prefix) for key in (*waiting, *running))


def forget(job_ids: Collection[str]) -> int:
    """Take these jobs of the current workspace out of Redis, unless they run; how many there were.

    What runs finds its work gone, and RQ forgets it RESULT_SECONDS later.
    """
    keys, removed = {job_key(job_id, current_tenant().id) for job_id in job_ids}, 0
    for queue in queues():
        client, started = queue.connection, queue.started_job_registry.key
        keys -= {member.decode().partition(":")[0] for member in client.zrange(started, 0, -1)}
        queued = keys.intersection(queue.get_job_ids())
        with client.pipeline() as pipeline:
            for key in queued:
                pipeline.lrem(queue.key, 0, key)
            for registry in (queue.failed_job_registry, queue.finished_job_registry):
                if keys:
                    pipeline.zrem(registry.key, *keys)
            pipeline.execute()
    if keys:
        client = queues()[0].connection
        removed = client.delete(*(f"rq:job:{key}" for key in keys))
        client.delete(*(f"rq:{kind}:{key}" for key in keys for kind in ("results", "executions")))
    return removed


def forget_workspace(tenant: UUID) -> int:
    """Take every job of a workspace out of Redis, in whatever state, with what RQ kept about it; how many there were."""
    removed, prefix = 0, job_key("", tenant)
    for queue in queues():
        for job_id in queue.get_job_ids():
            if job_id.startswith(prefix):
                queue.connection.lrem(queue.key, 0, job_id)
        for registry in (queue.started_job_registry, queue.failed_job_registry, queue.finished_job_registry):
            for member in queue.connection.zrange(registry.key, 0, -1):
                if member.decode().startswith(prefix):
                    queue.connection.zrem(registry.key, member)
    client = queues()[0].connection
    for key in client.scan_iter(match=f"rq:*:{prefix}*", count=1000):
        client.delete(key)
        removed += key.startswith(b"rq:job:")
    return removed


def count_workspace(tenant: UUID) -> int:
    """How many jobs of a workspace Redis knows, in whatever state."""
    return sum(1 for _ in queues()[0].connection.scan_iter(match=f"rq:job:{job_key('', tenant)}*", count=1000))


def workers() -> int:
    """How many worker processes take jobs; one that was killed may count until its heartbeat is over."""
    return int(Worker.count(connection=queues()[0].connection))


def worker_is_alive(name: str | None) -> bool:
    """Whether the worker of that name lives, as far as can be told from here."""
    if not name:
        return False
    queue = django_rq.get_queue(QUEUES[0])
    worker = Worker.find_by_key(f"rq:worker:{name}", connection=queue.connection, serializer=queue.serializer)
    if worker is None:
        return False
    if worker.hostname == socket.gethostname() and worker.pid:
        try:
            os.kill(worker.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    return True  # on another machine its heartbeat, which expires, is what we know


def worker_is_listening() -> bool:
    """Whether some worker process is alive, here or on another machine."""
    names = (key.rpartition(":")[2] for key in Worker.all_keys(connection=queues()[0].connection))
    return any(worker_is_alive(name) for name in names)
