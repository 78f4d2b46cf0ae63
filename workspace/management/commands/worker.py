"""`manage.py worker`: runs jobs in this process until it is told to stop (SIGTERM: after the current job)."""

import logging
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from redis.exceptions import ConnectionError as Unreachable

from tenants.jobs import queues
from tenants.keys import presence
from tenants.sweeping import sweep
from tenants.upgrading import upgrade_workspaces
from tenants.worker import new_worker, release_jobs_of_dead_workers

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60


class Command(BaseCommand):
    help = "Runs background jobs: provisioning and evaluation first, then ingestion."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--burst", action="store_true", help="end when the queues are empty")

    def handle(self, *args: Any, **options: Any) -> None:
        if "operator" not in connections.settings:
            raise CommandError("DB_PASSWORD_OPERATOR: is not set. The worker needs it to create workspaces and indexes.")
        wait_for_redis()
        end_presence = presence.start("worker")
        try:
            self._work(burst=options["burst"])
        finally:
            end_presence()

    def _work(self, *, burst: bool) -> None:
        self._upgrade()
        # an idle worker wakes every 15 s and looks after what is abandoned
        worker = new_worker(worker_ttl=30, maintenance_interval=30)
        release_jobs_of_dead_workers()
        sweep(everything=True)
        worker.work(burst=burst, with_scheduler=False, logging_level="WARNING")

    def _upgrade(self) -> None:
        """Workspaces that an earlier version left behind answer 503 until this is done."""
        report = upgrade_workspaces()
        if report.upgraded or report.failed:
            logger.info("%d workspaces upgraded, %d failed", len(report.upgraded), len(report.failed))
        for slug, why in report.failed.items():
            logger.error("upgrading %s failed: %s", slug, why)


def wait_for_redis() -> None:
    """A queue that is just restarting is no reason to give up."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            queues()[0].connection.ping()
            return
        except Unreachable:
            if time.monotonic() > deadline:
                raise CommandError("REDIS_URL: Redis does not answer there.") from None
            time.sleep(1)
