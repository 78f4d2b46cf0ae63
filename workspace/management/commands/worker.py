"""`manage.py worker`: runs jobs in this process until it is told to stop (SIGTERM: after the current job)."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from tenants.jobs import HotWorker, TenantJob, TenantQueue, queues, release_jobs_of_dead_workers, sweep


class Command(BaseCommand):
    help = "Runs background jobs: provisioning and evaluation first, then ingestion."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--burst", action="store_true", help="end when the queues are empty")

    def handle(self, *args: Any, **options: Any) -> None:
        if "operator" not in connections.settings:
            raise CommandError(
                "DB_PASSWORD_OPERATOR: is not set. The worker needs it to create workspaces and indexes."
            )
        listening = queues()
        worker = HotWorker(
            listening,
            connection=listening[0].connection,
            job_class=TenantJob,
            queue_class=TenantQueue,
            serializer=listening[0].serializer,
            worker_ttl=30,  # an idle worker wakes every 15 s and looks after what is abandoned
            maintenance_interval=30,
            log_job_description=False,
        )
        release_jobs_of_dead_workers()
        sweep()
        worker.work(burst=options["burst"], with_scheduler=False, logging_level="WARNING")
