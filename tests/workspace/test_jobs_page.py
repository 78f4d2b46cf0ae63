"""/admin/jobs/: who works on what, what failed and where, and trying again by the product's own way."""

from datetime import timedelta

import django_rq
import pytest
from django.test import Client
from django.utils import timezone
from rq.job import Job

from tenants import failed_jobs, jobs, worker
from tenants.context import workspace
from tenants.models import WorkspaceStats

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
runs: list[int] = []


@jobs.task
def fails_once(document: str) -> None:
    runs.append(1)
    if len(runs) == 1:
        raise ValueError("a private sentence")


@jobs.task
def always_fails() -> None:
    raise ValueError


@pytest.fixture
def staff(person, sign_in) -> Client:
    return sign_in(person(None, email="staff@example.org", staff=True))


@pytest.fixture
def failed(workspace_a, run_jobs) -> str:
    runs.clear()
    with workspace(workspace_a):
        key = jobs.enqueue("tests.workspace.test_jobs_page.fails_once", "x", job_id="once", queue="ingest", timeout=77)
    with pytest.raises(AssertionError):
        run_jobs()
    return key


def keys_of_failed() -> list[str]:
    return [key for queue in jobs.queues() for key in queue.failed_job_registry.get_job_ids()]


def test_it_is_for_staff(client_owner, staff):
    assert client_owner.get("/admin/jobs/").status_code == 302
    page = staff.get("/admin/jobs/")
    assert page.status_code == 200
    assert "No worker is running" in page.content.decode()
    assert "/admin/jobs/" in staff.get("/admin/").content.decode()


def test_a_failed_job_is_shown_by_workspace_task_and_place_without_content(staff, failed):
    page = staff.get("/admin/jobs/").content.decode()
    for words in ("alpha", "tests.workspace.test_jobs_page.fails_once", "ValueError at tests/workspace/test_jobs_page.py"):
        assert words in page
    assert "private sentence" not in page


def test_trying_again_queues_it_as_it_was(staff, failed, run_jobs):
    assert staff.post("/admin/jobs/", {"retry": failed}).status_code == 302
    assert keys_of_failed() == []
    queue = django_rq.get_queue("ingest")
    again = Job.fetch(failed, connection=queue.connection, serializer=queue.serializer)
    assert (again.origin, again.timeout, again.args) == ("ingest", 77, ["x"])
    assert run_jobs() == 1
    assert len(runs) == 2


def test_removing_forgets_it(staff, failed, workspace_a):
    WorkspaceStats.objects.filter(pk=workspace_a.pk).update(refreshed_at=timezone.now())
    staff.post("/admin/jobs/", {"remove": failed})
    assert keys_of_failed() == []
    assert WorkspaceStats.objects.get(pk=workspace_a.pk).refreshed_at is None, "counted again soon"
    assert "not among the failed ones" in staff.post("/admin/jobs/", {"remove": failed}, follow=True).content.decode()


@pytest.mark.parametrize("field", ["func", "meta"])
def test_what_is_no_task_of_ours_is_not_run_again_but_can_be_removed(staff, failed, workspace_b, field):
    queue = django_rq.get_queue("ingest")
    job = queue.job_class.fetch(failed, connection=queue.connection, serializer=queue.serializer)
    if field == "func":
        job.func_name = "os.mkdir"
    else:
        job.meta["tenant"] = str(workspace_b.pk)
    job.save()
    assert "cannot be tried again" in staff.post("/admin/jobs/", {"retry": failed}, follow=True).content.decode()
    assert queue.count == 0
    assert "1 cannot be" in staff.post("/admin/jobs/", {"retry": "all"}, follow=True).content.decode()
    staff.post("/admin/jobs/", {"remove": "all"})
    assert keys_of_failed() == []


def test_garbage_is_shown_as_such_and_removed(staff, failed):
    queue = django_rq.get_queue("ingest")
    queue.connection.hset(f"rq:job:{failed}", "data", b"\xff zz")
    assert "cannot be read" in staff.get("/admin/jobs/").content.decode()
    staff.post("/admin/jobs/", {"remove": failed})
    assert keys_of_failed() == []


@pytest.mark.parametrize("act", [failed_jobs.retry_all, failed_jobs.remove_all])
def test_however_many_failed_their_list_is_read_once(act, workspace_a, run_jobs, monkeypatch, django_assert_num_queries):
    with workspace(workspace_a):
        for number in range(12):
            jobs.enqueue("tests.workspace.test_jobs_page.always_fails", job_id=f"failing-{number}")
    with pytest.raises(AssertionError):
        run_jobs()
    client = django_rq.get_queue("default").connection
    commands, execute = [], type(client).execute_command
    monkeypatch.setattr(type(client), "execute_command", lambda *args, **kw: commands.append(args[1:3]) or execute(*args, **kw))
    with django_assert_num_queries(1):  # that figures are due again
        done = act()
    assert done in (12, (12, 0))
    assert [commands.count(("ZREVRANGE", queue.failed_job_registry.key)) for queue in jobs.queues()] == [1, 1]
    assert keys_of_failed() == []


def test_a_public_job_is_tried_again_too(staff, run_jobs):
    runs.clear()
    jobs.enqueue_public("tests.workspace.test_jobs_page.fails_once", "x", job_id="public-once")
    with pytest.raises(AssertionError):
        run_jobs()
    staff.post("/admin/jobs/", {"retry": "all"})
    assert run_jobs() == 1


def test_what_runs_says_whether_its_worker_lives(staff, workspace_a):
    with workspace(workspace_a):
        key = jobs.enqueue("tests.workspace.test_jobs_page.fails_once", "x", job_id="running")
    queue = django_rq.get_queue("default")
    job = queue.job_class.fetch(key, connection=queue.connection, serializer=queue.serializer)
    job.worker_name = "gone"
    job.set_status("started")
    job.save()
    queue.connection.zadd(queue.started_job_registry.key, {f"{key}:execution": 9e12})
    idle = worker.new_worker()
    idle.register_birth()
    try:
        seen = failed_jobs.look()
        assert [(job.task, job.worker_alive) for job in seen.running] == [("tests.workspace.test_jobs_page.fails_once", False)]
        assert [(found.name, found.alive) for found in seen.workers] == [(idle.name, True)]
        assert "dead: the job is queued again within a minute" in staff.get("/admin/jobs/").content.decode()
    finally:
        idle.register_death()


def test_documents_unfinished_for_too_long_are_listed(staff, workspace_a):
    WorkspaceStats.objects.create(
        tenant=workspace_a, unfinished=3, oldest_unfinished_at=timezone.now() - timedelta(hours=5), refreshed_at=timezone.now()
    )
    assert [found.unfinished for found in failed_jobs.look().stuck] == [3]
    assert "alpha" in staff.get("/admin/jobs/").content.decode()


def test_without_redis_it_says_so(staff, monkeypatch):
    from redis.exceptions import ConnectionError as Unreachable

    def away():
        raise Unreachable

    monkeypatch.setattr(failed_jobs.jobs, "queues", away)
    page = staff.get("/admin/jobs/")
    assert (page.status_code, "Redis does not answer" in page.content.decode()) == (503, True)
