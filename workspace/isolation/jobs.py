"""The worker's way to the self-test's verbs: canaries for each workspace, checks, and the nightly run."""

from uuid import UUID

from django.utils import timezone

from tenants.context import current_tenant, public_context
from tenants.jobs import enqueue, in_flight, task
from tenants.sweeping import after_provisioning, every, public_sweeper, sweeper
from workspace.isolation import canaries, verifying

LOOK_SECONDS = 3600  # between two looks at a workspace's canaries
NIGHTLY_LOOK_SECONDS = 600


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


@sweeper
def look_after_canaries() -> None:
    """What is missing or damaged is made anew by a job."""
    if every(LOOK_SECONDS, "canaries") and canaries.find() is None and not in_flight("canaries"):
        queue_canaries()


@public_sweeper
def resume_checks() -> None:
    verifying.resume_unfinished()


@public_sweeper
def begin_nightly() -> None:
    if every(NIGHTLY_LOOK_SECONDS, "isolation"):
        verifying.begin_nightly(timezone.now())
