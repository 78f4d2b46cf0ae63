"""Jobs: in their workspace or not at all, registered functions only, nothing private in Redis."""

import contextlib
import threading

import django_rq
import pytest
from django.db import connection
from rq.job import Job

from tenants import jobs, sweeping, worker
from tenants.context import NoTenant, current_tenant, workspace

seen: list[tuple[str, str]] = []


@jobs.task
def note(word: str) -> None:
    seen.append((current_tenant().slug, word))


@jobs.task
def fail() -> None:
    raise ValueError("a private sentence")


def not_registered() -> None:
    seen.append(("-", "not registered"))


pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()


def test_it_runs_in_the_workspace_it_was_queued_in(workspace_a, workspace_b, run_jobs):
    for tenant, word in ((workspace_a, "one"), (workspace_b, "two"), (workspace_a, "three")):
        with workspace(tenant):
            jobs.enqueue("tests.tenants.test_jobs.note", word, job_id=word)
            assert jobs.in_flight(word, "default")
    assert run_jobs() == 3
    assert seen == [("alpha", "one"), ("beta", "two"), ("alpha", "three")]
    assert connection.schema_name == "public"
    with workspace(workspace_a):
        assert not jobs.in_flight("one", "default")


def test_outside_a_workspace_nothing_can_be_queued():
    with pytest.raises(NoTenant):
        jobs.enqueue("tests.tenants.test_jobs.note", "x", job_id="x")
    with pytest.raises(NoTenant):
        django_rq.get_queue("default").enqueue("tests.tenants.test_jobs.note", "x")


def test_content_is_no_argument(in_workspace_a):
    with pytest.raises(TypeError):
        jobs.enqueue("tests.tenants.test_jobs.note", {"text": "x"}, job_id="x")


def test_a_function_that_is_not_registered_is_refused(in_workspace_a, run_jobs):
    jobs.enqueue("tests.tenants.test_jobs.not_registered", job_id="x")
    with pytest.raises(AssertionError, match="PermissionError"):
        run_jobs()
    assert seen == []


def test_a_forged_job_naming_a_system_function_is_refused(workspace_a, run_jobs, tmp_path):
    queue = django_rq.get_queue("default")
    job = Job.create(
        "os.mkdir", args=(str(tmp_path / "made"),), connection=queue.connection, serializer=queue.serializer,
        meta={"tenant": str(workspace_a.id)},
    )  # fmt: skip
    queue.enqueue_job(job)
    with pytest.raises(AssertionError, match="PermissionError"):
        run_jobs()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("field", ["timeout", "created_at", "dependency_ids", "meta", "data", "retries_left", "started_at"])
@pytest.mark.parametrize("registered", [False, True])
def test_garbage_in_redis_does_not_end_the_worker(workspace_a, run_jobs, field, registered):
    with workspace(workspace_a):
        key = jobs.enqueue("tests.tenants.test_jobs.note", "garbage", job_id="garbage")
        jobs.enqueue("tests.tenants.test_jobs.note", "good", job_id="good")
    queue = django_rq.get_queue("default")
    queue.connection.hset(f"rq:job:{key}", field, b"\xff zz")
    if registered:
        queue.connection.zadd(queue.started_job_registry.key, {f"{key}:x": 9e12})
        worker.release_jobs_of_dead_workers()
    with workspace(workspace_a):
        jobs.held("default")
        jobs.in_flight("garbage", "default")
    with contextlib.suppress(AssertionError):  # what could be read of it failed; the worker goes on
        run_jobs()
    assert ("alpha", "good") in seen


def test_a_redis_that_takes_nothing_does_not_end_the_worker(workspace_a, monkeypatch, caplog):
    """As when its disk or its memory is full: it answers, and refuses to write how the first job ended."""
    redis = django_rq.get_queue("default").connection
    most = redis.config_get("maxmemory")["maxmemory"]
    ran = []

    def fill(word):
        ran.append(word)
        if len(ran) == 1:
            redis.config_set("maxmemory", 1)
            threading.Timer(0.3, redis.config_set, ("maxmemory", most)).start()

    monkeypatch.setitem(jobs._tasks, "tests.tenants.test_jobs.note", fill)
    monkeypatch.setattr(worker, "REFUSED_SECONDS", 0.05)
    with workspace(workspace_a):
        for word in ("first", "second"):
            jobs.enqueue("tests.tenants.test_jobs.note", word, job_id=word)
    try:
        working = worker.new_worker()
        working.work(burst=True, logging_level="CRITICAL")
    finally:
        redis.config_set("maxmemory", most)
    assert ran == ["first", "second"]
    assert caplog.text.count("no job can be taken") == 1, "not with each time Redis is asked"
    with workspace(workspace_a):
        assert jobs.in_flight("first", "default"), "nothing says that it ended"
        assert worker.release_jobs_of_dead_workers(idle=working.name) == 1
        assert not jobs.in_flight("first", "default")


def test_a_failure_leaves_no_content_in_redis(in_workspace_a, run_jobs):
    jobs.enqueue("tests.tenants.test_jobs.fail", job_id="x")
    with pytest.raises(AssertionError, match=r"ValueError at .*test_jobs.py"):
        run_jobs()
    redis = django_rq.get_queue("default").connection
    everything = b"".join(redis.dump(key) or b"" for key in redis.scan_iter())
    assert b"private sentence" not in everything


def test_a_job_in_the_hands_of_a_dead_worker_is_not_in_flight(in_workspace_a):
    key = jobs.enqueue("tests.tenants.test_jobs.note", "x", job_id="x")
    queue = django_rq.get_queue("default")
    queue.connection.delete(queue.key)  # taken off the list, as a worker does
    assert not jobs.in_flight("x", "default")
    job = Job.fetch(key, connection=queue.connection, serializer=queue.serializer)
    job.worker_name = "gone"
    job.set_status("started")
    job.save()
    queue.connection.zadd(queue.started_job_registry.key, {f"{key}:execution": 9e12})
    assert not jobs.in_flight("x", "default")
    assert worker.release_jobs_of_dead_workers() == 1
    assert queue.connection.zcard(queue.started_job_registry.key) == 0


def test_sweepers_run_in_every_workspace_and_one_failing_stops_no_other(workspace_a, workspace_b, monkeypatch):
    visited = []

    def broken():
        raise ValueError

    monkeypatch.setattr(sweeping, "_sweepers", [broken, lambda: visited.append(current_tenant().slug)])
    monkeypatch.setattr(sweeping, "_public_sweepers", [lambda: visited.append(connection.schema_name)])
    sweeping.sweep()
    assert visited == ["public", "alpha", "beta"]


def test_without_redis_what_asked_for_a_job_goes_on(in_workspace_a, monkeypatch):
    """The row is committed; the sweeper queues the job when Redis is back."""
    from redis.exceptions import ConnectionError as Unreachable

    def away(*args, **kwargs):
        raise Unreachable

    monkeypatch.setattr(worker.TenantQueue, "original_enqueue_call", away)
    jobs.enqueue("tests.tenants.test_jobs.note", "x", job_id="x")
    assert not jobs.in_flight("x", "default")


def test_held_names_what_waits_or_runs_here(workspace_a, workspace_b):
    for tenant, word in ((workspace_a, "one"), (workspace_b, "two")):
        with workspace(tenant):
            jobs.enqueue("tests.tenants.test_jobs.note", word, job_id=word)
    with workspace(workspace_a):
        assert jobs.held("default") == {"one"}


def test_a_sweep_without_the_database_ends_quietly(workspace_a, monkeypatch):
    from django.db import OperationalError

    def away():
        raise OperationalError

    monkeypatch.setattr(sweeping, "_public_sweepers", [away])
    sweeping.sweep()


def test_a_signal_that_comes_during_maintenance_stops_the_worker(workspace_a, monkeypatch):
    from rq.exceptions import StopRequested

    def stopped(**_):
        raise StopRequested

    working = worker.new_worker()
    monkeypatch.setattr(worker, "release_jobs_of_dead_workers", stopped)
    with pytest.raises(StopRequested):
        working.run_maintenance_tasks()
    monkeypatch.undo()
    monkeypatch.setattr(sweeping, "_public_sweepers", [stopped])
    with pytest.raises(StopRequested):
        working.run_maintenance_tasks()
