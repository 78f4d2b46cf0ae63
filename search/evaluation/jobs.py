"""The worker's way to the evaluation's verbs."""

from uuid import UUID

from search.evaluation import runs
from tenants.jobs import task
from tenants.sweeping import sweeper


@task
def run(run_id: str) -> None:
    runs.execute(UUID(run_id))


@sweeper
def resume_runs() -> None:
    runs.resume_unfinished()
