"""Runs jobs, each inside the workspace it names: JSON instead of pickle, registered functions alone, nothing kept in Redis.

Refuses to know what a job does, and stays alive whatever Redis says.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections
from django_rq.queues import DjangoRQ
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.exceptions import NoSuchJobError, StopRequested
from rq.executions import Execution
from rq.job import Job

from tenants import alarms, seals, stalls
from tenants.context import NoTenant, workspace
from tenants.database import connection
from tenants.jobs import PUBLIC, queues, registered, worker_is_alive
from tenants.keys import presence
from tenants.models import Tenant
from tenants.privacy import describe_exception
from tenants.schemas import is_open
from tenants.sweeping import sweep

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5
REFUSED_SECONDS = 1  # until Redis is asked again
SAID_EVERY = 60  # seconds in which that is said once


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
            with presence.using(UUID(named)):  # before it is asked whether it is open: a freeze waits for the end
                if tenant is None or not seals.stands(tenant) or not is_open(tenant):
                    logger.info("%s is left: its workspace is not open; a sweeper brings it back when it is", self.id)
                    return None
                with workspace(tenant):
                    return run()
        finally:
            connection.return_to_public()
            alarms.flush()
            close_old_connections()

    def _execute(self) -> Any:
        function = registered(self.func_name)
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


def new_worker(**more: Any) -> "HotWorker":
    """A worker on the queues of WORKER_QUEUES, in this process."""
    listening = queues(settings.WORKER_QUEUES)
    return HotWorker(
        listening,
        connection=listening[0].connection,
        job_class=TenantJob,
        queue_class=TenantQueue,
        serializer=listening[0].serializer,
        log_job_description=False,
        **more,
    )


class HotWorker(SimpleWorker):
    """Runs jobs in its own process, so that the model stays loaded, with a heartbeat of its own while one runs.

    A forked child of a process with a warm model may hang, and RQ's in-process worker sends no heartbeat during a job:
    its death would be noticed only when the job's time-out is over. It also outlives a Redis that is away, or that answers
    but takes nothing, as when its disk or its memory is full.
    """

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        said_at: float | None = None
        while not self._stop_requested:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except RedisError as error:
                if said_at is None or time.monotonic() - said_at >= SAID_EVERY:
                    logger.error("no job can be taken: %s", describe_exception(error))
                    said_at = time.monotonic()
                time.sleep(REFUSED_SECONDS)
        raise StopRequested

    def check_for_suspension(self, burst: bool) -> None:
        with suppress(RedisError):  # which is noticed, and waited for, when a job is to be taken
            super().check_for_suspension(burst)

    def get_heartbeat_ttl(self, job: Job) -> int:
        return HEARTBEAT_SECONDS * 6

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Redis may have forgotten this worker: without its name and process nobody would see it, nor notice its death."""
        try:
            if not self.connection.hexists(self.key, "birth"):
                self.connection.delete(self.key)
                self.register_birth()
            super().heartbeat(timeout, pipeline)
        except RedisError as error:
            if pipeline is not None:
                raise
            logger.warning("heartbeat failed: %s", describe_exception(error))

    def execute_job(self, job: Job, queue: Any) -> None:
        try:
            self._execute(job, queue)
        except RedisError as error:  # the database knows how far it came, and what is left of it in Redis is released below
            logger.error("how job %s began or ended is not noted: %s", job.id, describe_exception(error))

    def _execute(self, job: Job, queue: Any) -> None:
        self._note_taken()
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

    def _note_taken(self) -> None:
        try:
            stalls.note_taken()
        except RedisError as error:
            logger.warning("that a job was taken is not noted: %s", describe_exception(error))

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
            release_jobs_of_dead_workers(idle=self.name)
            super().run_maintenance_tasks()
        except StopRequested:  # SIGTERM came in between
            raise
        except Exception as error:
            logger.error("maintenance failed: %s", describe_exception(error))
        sweep()


def release_jobs_of_dead_workers(*, idle: str = "") -> int:
    """Take what dead workers held out of RQ's registry; the sweepers queue it again from the database.

    `idle`: a worker that says it has no job. What it seems to hold has ended, which could not be noted.
    """
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
            if job.worker_name == idle or not worker_is_alive(job.worker_name):
                queue.connection.zrem(registry.key, member)
                # it may name an execution whose record has expired, at which job.delete() would stop with a ValueError
                queue.connection.delete(job.execution_registry.key)
                job.delete(remove_from_queue=True)
                released += 1
    return released
