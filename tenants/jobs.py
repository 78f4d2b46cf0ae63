"""Background jobs bound to a workspace: RQ with a tenant in every job, JSON instead of pickle, and functions by name.

Redis is not trusted: a job runs only a function registered here with `@task`, with ids as its arguments, inside the
tenant that the job names; a job without a tenant raises. The database is the truth: what Redis loses, the sweepers
registered with `on_worker_start` queue again.
"""

import logging
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID

import django_rq
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, transaction
from django_rq.queues import DjangoRQ
from redis.exceptions import RedisError
from rq import SimpleWorker, Worker
from rq.exceptions import NoSuchJobError, StopRequested
from rq.executions import Execution
from rq.job import Job, JobStatus

from tenants import stats
from tenants.context import NoTenant, current_tenant, workspace
from tenants.database import connection
from tenants.models import Tenant
from tenants.privacy import describe_exception
from tenants.schemas import is_open

logger = logging.getLogger(__name__)

QUEUES = ("default", "ingest")  # in order of priority
PUBLIC = "public"
HEARTBEAT_SECONDS = 5
RESULT_SECONDS = 300
RETRY_SECONDS = 3600  # for a failed job that does not say how long it may take

_tasks: dict[str, Callable[..., Any]] = {}
_sweepers: list[Callable[[], None]] = []
_public_sweepers: list[Callable[[], None]] = []
_after_provisioning: list[Callable[[], None]] = []


def task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Allow jobs to run `function`, under its dotted name."""
    _tasks[f"{function.__module__}.{function.__qualname__}"] = function
    return function


def on_worker_start(function: Callable[[], None]) -> Callable[[], None]:
    """Run `function` inside every active workspace when a worker starts and once an hour, and every half minute inside
    those in which there is unfinished work, or was somebody lately (tenants/stats.py).
    """
    _sweepers.append(function)
    return function


def on_worker_start_public(function: Callable[[], None]) -> Callable[[], None]:
    """The same for what belongs to the installation: runs once, in public context."""
    _public_sweepers.append(function)
    return function


def after_provisioning(function: Callable[[], None]) -> Callable[[], None]:
    """Run `function` inside each workspace that has just been made, to queue what it needs; a sweeper makes up for failures."""
    _after_provisioning.append(function)
    return function


def provisioned(tenant: Tenant) -> None:
    with workspace(tenant):
        for function in _after_provisioning:
            _guarded(function)


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
    """Queue a job that failed as it was queued before; for staff (tenants/queues.py has checked what it names)."""
    _enqueue(tenant, job.func_name, tuple(job.args), job_id, job.origin, int(job.timeout or RETRY_SECONDS))


def are_ids(args: Sequence[Any]) -> bool:
    """What a job's arguments may be."""
    return all(isinstance(arg, str | int) for arg in args)


def tasks() -> frozenset[str]:
    """The dotted names jobs may call."""
    return frozenset(_tasks)


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


def remove_all(tenant: UUID) -> int:
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


# ---------------------------------------------------------------- running them


class TenantJob(Job):
    """A job that enters its workspace, runs a registered task, and leaves; callbacks and webhooks named in Redis never run."""

    def _in_tenant(self, run: Callable[[], Any]) -> Any:
        named = (self.meta or {}).get("tenant")
        if not named:
            raise NoTenant("a job without a tenant: enqueue it through tenants.jobs")
        close_old_connections()
        connection.set_schema_to_public()
        try:
            if named == PUBLIC:
                return run()
            tenant = Tenant.objects.filter(pk=UUID(named)).first()
            if tenant is None or not is_open(tenant):
                logger.info("%s is left: its workspace is not open; a sweeper brings it back when it is", self.id)
                return None
            with workspace(tenant):
                return run()
        finally:
            connection.return_to_public()
            close_old_connections()

    def _execute(self) -> Any:
        function = _tasks.get(self.func_name)
        if function is None:
            raise PermissionError(f"{self.func_name} is not a registered task")
        self._in_tenant(lambda: function(*self.args))
        return None  # results live in the database, never in Redis

    def restore(self, raw_data: Any) -> Any:
        """A job that cannot be read is no job: somebody else's writing in Redis must not end the worker."""
        try:
            return super().restore(raw_data)
        except NoSuchJobError:
            raise
        except Exception as error:
            self.connection.delete(self.key)
            raise NoSuchJobError(f"job {self.id} cannot be read") from error

    def execute_success_callback(self, *args: Any) -> None:
        return

    def execute_failure_callback(self, *args: Any) -> None:
        return

    def execute_stopped_callback(self, *args: Any) -> None:
        return

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        return


class TenantQueue(DjangoRQ):
    """Refuses a job without a tenant when it is put in, not only when it runs."""

    def original_enqueue_call(self, *args: Any, **kwargs: Any) -> Job:
        if not (kwargs.get("meta") or {}).get("tenant"):
            raise NoTenant("a job without a tenant: enqueue it through tenants.jobs")
        return super().original_enqueue_call(*args, **kwargs)


def queues() -> list[Any]:
    """All queues, in order of priority."""
    return [django_rq.get_queue(name) for name in QUEUES]


def new_worker(**more: Any) -> "HotWorker":
    """A worker on all queues, in this process."""
    listening = queues()
    return HotWorker(
        listening,
        connection=listening[0].connection,
        job_class=TenantJob,
        queue_class=TenantQueue,
        serializer=listening[0].serializer,
        log_job_description=False,
        **more,
    )


def worker_is_listening() -> bool:
    """Whether some worker process is alive, here or on another machine."""
    names = (key.rpartition(":")[2] for key in Worker.all_keys(connection=queues()[0].connection))
    return any(worker_is_alive(name) for name in names)


class HotWorker(SimpleWorker):
    """Runs jobs in its own process, so that the model stays loaded, with a heartbeat of its own while one runs.

    A forked child of a process with a warm model may hang, and RQ's in-process worker sends no heartbeat during a job:
    its death would be noticed only when the job's time-out is over.
    """

    def get_heartbeat_ttl(self, job: Job) -> int:
        return HEARTBEAT_SECONDS * 6

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Redis may have forgotten this worker: without its name and process nobody would see it, nor notice its death."""
        if not self.connection.hexists(self.key, "birth"):
            self.connection.delete(self.key)
            self.register_birth()
        super().heartbeat(timeout, pipeline)

    def execute_job(self, job: Job, queue: Any) -> None:
        execution = self.prepare_execution(job)
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(job, execution, stop), daemon=True, name="heartbeat")
        beat.start()
        try:
            self.perform_job(job, queue)
        finally:
            stop.set()
            beat.join()
            self.set_state("idle")

    def _beat(self, job: Job, execution: Execution, stop: threading.Event) -> None:
        ttl = self.get_heartbeat_ttl(job)
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                with self.connection.pipeline() as pipeline:
                    self.heartbeat(ttl, pipeline=pipeline)
                    execution.heartbeat(job.started_job_registry, ttl, pipeline=pipeline)
                    pipeline.execute()
            except Exception as error:  # Redis away for a moment must not end the job
                logger.warning("heartbeat failed: %s", describe_exception(error))

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """RQ would log and store the message and arguments, which may hold what is to stay private."""
        logger.error("job %s failed: %s", job.id, describe_exception(exc_info[1]))

    def handle_job_failure(self, job: Job, queue: Any, started_job_registry: Any = None, exc_string: str = "") -> None:
        error = sys.exc_info()[1]
        super().handle_job_failure(job, queue, started_job_registry, describe_exception(error) if error else "abandoned")

    def run_maintenance_tasks(self) -> None:
        """Between jobs, every half minute. What fails here is tried again then; it must not end the worker."""
        try:
            release_jobs_of_dead_workers()
            super().run_maintenance_tasks()
        except StopRequested:  # SIGTERM came in between
            raise
        except Exception as error:
            logger.error("maintenance failed: %s", describe_exception(error))
        sweep()


def release_jobs_of_dead_workers() -> int:
    """Take what dead workers held out of RQ's registry; the sweepers queue it again from the database."""
    released = 0
    for queue in queues():
        registry = queue.started_job_registry
        for member in queue.connection.zrange(registry.key, 0, -1):
            job_id = member.decode().partition(":")[0]
            try:
                job = queue.job_class.fetch(job_id, connection=queue.connection, serializer=queue.serializer)
            except (NoSuchJobError, ValueError):
                queue.connection.zrem(registry.key, member)
                continue
            if not worker_is_alive(job.worker_name):
                queue.connection.zrem(registry.key, member)
                # it may name an execution whose record has expired, at which job.delete() would stop with a ValueError
                queue.connection.delete(job.execution_registry.key)
                job.delete(remove_from_queue=True)
                released += 1
    return released


def sweep(*, everything: bool = False) -> None:
    """Run the registered sweepers: public ones once, the others in each workspace that is due, whose figures are taken
    then, or in `everything` that is active, at a worker's start. One failing stops no other, nor one workspace another.
    """
    try:
        close_old_connections()
        connection.set_schema_to_public()
        for sweeper in _public_sweepers:
            with _apart("the installation"):
                _guarded(sweeper)
        failed, due = failed_by_workspace(), {tenant.id: tenant for tenant in stats.due()}
        swept = list(Tenant.objects.filter(status=Tenant.Status.ACTIVE)) if everything else list(due.values())
        for tenant in filter(is_open, swept):
            with _apart(str(tenant.pk)):
                with workspace(tenant):
                    for sweeper in _sweepers:
                        _guarded(sweeper)
                if tenant.id in due:
                    _guarded(partial(stats.refresh, tenant, jobs_failed=failed[tenant.id]))
            close_old_connections()  # one that has touched many workspaces has grown
        _guarded(stats.refresh_closed)
    except (OperationalError, InterfaceError) as error:  # the database is away: the next sweep finds it again
        logger.error("sweep ended: %s", describe_exception(error))
    finally:
        connection.return_to_public()


@contextmanager
def _apart(part: str) -> Iterator[None]:
    """A statement that is cancelled, a login that is refused end this part of a sweep; only a database that is away ends all."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        logger.error("sweeping %s ended: %s", part, describe_exception(error))
        connection.close()
        connection.set_schema_to_public()
        Tenant.objects.exists()


def failed_keys(queue: Any) -> list[str]:
    """The ids in Redis of the jobs that failed, the latest first."""
    members = queue.connection.zrange(queue.failed_job_registry.key, 0, -1, desc=True)
    return [member.decode(errors="replace") for member in members]


def failed_by_workspace() -> Counter[UUID]:
    """How many failed jobs each workspace has; none where Redis is away."""
    found: Counter[UUID] = Counter()
    with suppress(RedisError):
        for queue in queues():
            for key in failed_keys(queue):
                with suppress(ValueError):
                    found[UUID(key.partition("-")[0])] += 1
    return found


def _guarded(sweeper: Callable[[], Any]) -> None:
    try:
        sweeper()
    except (OperationalError, InterfaceError, StopRequested):
        raise
    except Exception as error:
        name = getattr(sweeper, "func", sweeper).__qualname__
        logger.error("%s failed: %s", name, describe_exception(error))
