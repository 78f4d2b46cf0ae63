"""The worker's way to the check: by button, by night, and what killed workers leave behind."""

from uuid import UUID

from django.utils import timezone

from tenants.jobs import task
from tenants.sweeping import every, public_sweeper
from workspace.plaintext_map import auditing

NIGHTLY_LOOK_SECONDS = 60


@task
def check(check_id: str) -> None:
    auditing.run(UUID(check_id))


@public_sweeper
def interrupted_checks() -> None:
    auditing.mark_interrupted()


@public_sweeper
def begin_nightly() -> None:
    if every(NIGHTLY_LOOK_SECONDS, "plaintext"):
        auditing.begin_nightly(timezone.now())
