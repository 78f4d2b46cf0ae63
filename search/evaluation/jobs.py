"""The worker's way to the evaluation's verbs."""

from uuid import UUID

from search.evaluation import runs
from tenants.jobs import on_worker_start, task


@task
def run(run_id: str) -> None:
    runs.execute(UUID(run_id))


@on_worker_start
def resume_runs() -> None:
    runs.resume_unfinished()
