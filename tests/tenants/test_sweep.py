"""The sweep: quiet workspaces are left alone, nothing lost stays lost, and no connection remembers too many of them."""

from datetime import timedelta

import django_rq
import pytest
from django.core.cache import cache
from django.db import close_old_connections, transaction
from django.http import HttpResponse
from django.utils import timezone

from documents.dispatch import enqueue_ingest
from documents.models import Document
from tenants import failed_jobs, jobs, stats, sweeping
from tenants.context import current_tenant, public_context, workspace
from tenants.database import base, connection
from tenants.models import Tenant, WorkspaceStats
from tests.conftest import act_as
from tests.factories import DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@pytest.fixture
def visited(monkeypatch):
    found: list[str] = []
    monkeypatch.setattr(sweeping, "_sweepers", [lambda: found.append(current_tenant().slug)])
    return found


def age(tenant, **fields) -> None:
    WorkspaceStats.objects.filter(pk=tenant.pk).update(**fields)


def test_only_what_is_due_is_swept(workspace_a, workspace_b, visited):
    sweeping.sweep()
    assert visited == ["alpha", "beta"]  # nothing was known of them
    visited.clear()
    sweeping.sweep()
    assert visited == []
    sweeping.sweep(everything=True)
    assert visited == ["alpha", "beta"]


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({"unfinished": 1}, True),
        ({"runs_unfinished": 1}, True),
        ({"refreshed_at": None}, True),
        ({"refreshed_at": timedelta(hours=-2)}, True),
        ({"refreshed_at": timedelta(days=2)}, True),  # a clock that was wrong
        ({"last_activity_at": timedelta()}, True),
        ({"queued_at": timedelta()}, True),
        ({"last_activity_at": timedelta(hours=-1), "queued_at": timedelta(hours=-1)}, False),
    ],
)
def test_what_makes_a_workspace_due(workspace_a, workspace_b, fields, due):
    sweeping.sweep()
    now = timezone.now()
    age(workspace_a, **{name: now + value if isinstance(value, timedelta) else value for name, value in fields.items()})
    assert [tenant.slug for tenant in stats.due()] == (["alpha"] if due else [])


def test_a_request_is_written_down_before_its_work_and_then_not_for_minutes(client_viewer, workspace_a, monkeypatch):
    sweeping.sweep()
    seen = []
    monkeypatch.setattr("search.views.render", lambda *args, **kwargs: seen.append(_activity(workspace_a)) or HttpResponse())
    client_viewer.get("/w/alpha/")
    assert seen[0] is not None
    age(workspace_a, last_activity_at=None)
    client_viewer.get("/w/alpha/")
    assert _activity(workspace_a) is None
    stats.forget_noted()
    client_viewer.get("/w/alpha/")
    assert _activity(workspace_a) is not None


def _activity(tenant):
    with public_context():
        return WorkspaceStats.objects.get(pk=tenant.pk).last_activity_at


def test_who_is_no_member_leaves_no_trace(client_viewer, workspace_b):
    assert client_viewer.get("/w/beta/").status_code == 404
    assert not WorkspaceStats.objects.exists()


def test_a_queued_job_is_noted_when_its_transaction_is_committed(workspace_a):
    sweeping.sweep()
    with workspace(workspace_a):
        with transaction.atomic():
            jobs.enqueue("documents.jobs.ingest", "x", job_id="x")
            transaction.set_rollback(True)
        assert _queued(workspace_a) is None
        with transaction.atomic():
            jobs.enqueue("documents.jobs.ingest", "x", job_id="x")
        assert current_tenant() == workspace_a
    assert _queued(workspace_a) is not None


def _queued(tenant):
    with public_context():
        return WorkspaceStats.objects.get(pk=tenant.pk).queued_at


def test_a_document_whose_job_was_lost_is_queued_again(workspace_a):
    sweeping.sweep(everything=True)
    with workspace(workspace_a):
        document = DocumentFactory()
        with transaction.atomic():
            enqueue_ingest(document.id)
    queue = django_rq.get_queue("ingest")
    queue.connection.flushdb()
    age(workspace_a, last_activity_at=None)
    sweeping.sweep()
    assert queue.count == 1
    age(workspace_a, queued_at=None)  # long ago: the document itself is reason enough
    queue.connection.flushdb()
    sweeping.sweep()
    assert queue.count == 1
    with workspace(workspace_a):
        assert Document.objects.get().is_unfinished


def test_figures_are_taken_with_each_sweep_and_failed_jobs_are_its_workspaces(workspace_a, owner, run_jobs):
    with workspace(workspace_a):
        jobs.enqueue("nobody.registered.this", job_id="x")
    with pytest.raises(AssertionError):
        run_jobs()
    sweeping.sweep()
    assert WorkspaceStats.objects.get(pk=workspace_a.pk).jobs_failed == 1
    assert failed_jobs.failed_by_workspace() == {workspace_a.pk: 1}


def cancelled() -> None:
    """What a statement that runs into its time limit does, in alpha alone."""
    if current_tenant().slug == "alpha":
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(1)")


def test_one_workspace_does_not_stop_the_sweep_of_others(workspace_a, workspace_b, visited, caplog):
    sweeping._sweepers.insert(0, cancelled)
    sweeping.sweep()
    assert visited == ["beta"]
    assert f"sweeping {workspace_a.pk} ended: django.db.utils.OperationalError" in caplog.text
    assert connection.schema_name == "public"
    assert [tenant.slug for tenant in stats.due()] == ["alpha"], "it is looked at again, the other is done"


def test_without_the_database_it_ends(workspace_a, workspace_b, visited, caplog):
    def lost() -> None:
        connection.close()
        connection.settings_dict = connection.settings_dict | {"PASSWORD": "wrong"}
        connection.ensure_connection()

    sweeping._sweepers.append(lost)
    try:
        sweeping.sweep()
    finally:
        act_as(None)
    assert visited == ["alpha"]
    assert "sweep ended: django.db.utils.OperationalError" in caplog.text


def test_what_is_done_now_and_then_each_workspace_has_once(workspace_a, workspace_b):
    """The cache, which all workers share, remembers it: not a process, which forgets when it starts."""
    assert sweeping.every(60, "something")
    assert not sweeping.every(60, "something")
    assert sweeping.every(60, "another")
    for tenant in (workspace_a, workspace_b):
        with workspace(tenant):
            assert [sweeping.every(60, "something") for _ in range(2)] == [True, False]
    cache.clear()
    assert sweeping.every(60, "something")


def test_suspended_workspaces_are_not_entered(workspace_a, workspace_b, visited):
    Tenant.objects.filter(pk=workspace_a.pk).update(status="suspended")
    sweeping.sweep(everything=True)
    assert visited == ["beta"]


def test_a_connection_is_made_anew_after_so_many_workspaces(workspace_a, workspace_b, monkeypatch):
    def backend() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    monkeypatch.setattr(base, "MOST_WORKSPACES", 1)
    connection.close()
    first = backend()
    for _ in range(3):
        with workspace(workspace_a):
            backend()
    close_old_connections()
    assert backend() == first
    with workspace(workspace_b):
        backend()
        close_old_connections()
        second = backend()
        assert second != first
    connection.set_schema_to_public()
    close_old_connections()
    assert backend() == second, "the new one has touched one workspace"


def test_not_within_a_transaction(workspace_a, workspace_b, monkeypatch):
    monkeypatch.setattr(base, "MOST_WORKSPACES", 0)
    with transaction.atomic(), workspace(workspace_a):
        assert Document.objects.count() == 0
        close_old_connections()
        assert connection.connection is not None
