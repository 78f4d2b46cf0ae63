"""The worker's way to the self-test's verbs: canaries for each workspace, checks, and the nightly run."""

import time
from uuid import UUID

from django.core.cache import cache

from tenants.context import current_tenant, public_context
from tenants.jobs import after_provisioning, enqueue, in_flight, on_worker_start, on_worker_start_public, task
from workspace.isolation import canaries, verifying

LOOK_SECONDS = 3600  # between two looks at a workspace's canaries
NIGHTLY_LOOK_SECONDS = 600

_seen: dict[UUID, float] = {}


@task
def check(check_id: str) -> None:
    verifying.check_by_id(UUID(check_id))


@task
def make_canaries() -> None:
    tenant = current_tenant()
    with public_context():
        canaries.ensure(tenant)


@after_provisioning
def queue_canaries() -> None:
    enqueue("workspace.isolation.jobs.make_canaries", job_id="canaries", queue="ingest")


@on_worker_start
def look_after_canaries() -> None:
    """What is missing or damaged is made anew by a job."""
    tenant = current_tenant().id
    if time.monotonic() - _seen.get(tenant, float("-inf")) < LOOK_SECONDS:
        return
    _seen[tenant] = time.monotonic()
    if canaries.find() is None and not in_flight("canaries"):
        queue_canaries()


@on_worker_start_public
def resume_checks() -> None:
    verifying.resume_unfinished()


@on_worker_start_public
def begin_nightly() -> None:
    if cache.add("isolation", 1, NIGHTLY_LOOK_SECONDS):
        verifying.begin_nightly()
