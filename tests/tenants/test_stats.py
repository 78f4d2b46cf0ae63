"""WorkspaceStats: what is counted inside a workspace, what is called trouble, and that neither tells any content."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from redis.exceptions import ConnectionError as Unreachable

from documents import dispatch, erasing, figures, ledger, queueing
from documents.models import Collection, Document, Stage
from documents.reasons import Reason
from search.models import FIRST_INDEX, IndexEntry, Terms
from tenants import failed_jobs, stats, sweeping
from tenants.context import workspace
from tenants.models import IsolationCheck, Tenant, User, WorkspaceStats
from tests.factories import CollectionFactory, DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
State = Document.State


def test_documents_are_counted_by_state_and_canaries_left_out(workspace_a, owner):
    with workspace(workspace_a):
        collection = CollectionFactory()
        DocumentFactory(collection=collection, content=b"12345")
        DocumentFactory(collection=collection, state=State.FAILED, reason="empty")
        canary = CollectionFactory()
        Collection.objects.filter(pk=canary.pk).update(is_canary=True)
        DocumentFactory(collection=canary)
    kept = stats.refresh(workspace_a, jobs_failed=2)
    assert (kept.documents, kept.failed, kept.unfinished, kept.ready) == (2, 1, 1, 0)
    assert kept.bytes == 5 + len(b"Some words in a document.")
    assert kept.oldest_unfinished_at is not None
    assert (kept.members, kept.jobs_failed) == (1, 2)
    assert WorkspaceStats.objects.get().documents == 2
    assert connection.schema_name == "public"


@pytest.mark.parametrize("why", ["paused", "a long queue"])
def test_what_waits_for_a_reason_is_not_stuck(workspace_a, owner, why):
    with workspace(workspace_a):
        DocumentFactory(created_at=timezone.now() - timedelta(hours=2))
        if why == "paused":
            queueing.pause()
        else:
            ended = ledger.begin(DocumentFactory().id)
            ledger.fail(ended.id, Reason.DAMAGED)
    kept = stats.refresh(workspace_a)
    assert (kept.unfinished, kept.oldest_unfinished_at) == (1, None)
    with workspace(workspace_a):
        queueing.resume()
        Stage.objects.update(ended_at=timezone.now() - timedelta(hours=1))
    assert stats.refresh(workspace_a).trouble == stats.Trouble.STUCK


def test_an_ingested_document_is_healthy_and_a_lost_entry_is_trouble(workspace_a, owner, run_jobs, model_dir):
    with workspace(workspace_a):
        document = DocumentFactory(content=b"A sentence to be found.")
        dispatch.enqueue_ingest(document.id)
    run_jobs()
    kept = stats.refresh(workspace_a)
    assert (kept.ready, kept.unfinished) == (1, 0)
    assert kept.passages == kept.entries == 1
    assert (kept.trouble, kept.trouble_words) == (0, "")
    with workspace(workspace_a):
        IndexEntry.objects.filter(index_id=FIRST_INDEX).delete()
    hour_passes(workspace_a)
    assert stats.refresh(workspace_a).trouble_words == "Its index has 0 entries for 1 passage."
    with workspace(workspace_a):
        Terms.objects.all().delete()
    hour_passes(workspace_a)
    assert stats.refresh(workspace_a).trouble_words == "1 ready document cannot be found by a search."


def hour_passes(tenant: Tenant) -> None:
    """For the count of the index, which is taken again."""
    WorkspaceStats.objects.filter(pk=tenant.pk).update(index_counted_at=timezone.now() - timedelta(hours=1))


def test_the_index_is_counted_when_it_changed_and_hourly(workspace_a, monkeypatch):
    counted, index = [], figures._index
    monkeypatch.setattr(figures, "_index", lambda: counted.append(1) or index())
    for _ in range(3):
        stats.refresh(workspace_a)
    assert len(counted) == 1
    with workspace(workspace_a):
        document = DocumentFactory(state=State.EMBEDDING)
        ledger.finish(document.pk)
    kept = stats.refresh(workspace_a)
    assert (len(counted), kept.ready, kept.unsearchable) == (2, 1, 0)
    with workspace(workspace_a):
        DocumentFactory()
    assert (stats.refresh(workspace_a).unfinished, len(counted)) == (1, 2), "documents are counted each time"
    hour_passes(workspace_a)
    stats.refresh(workspace_a)
    assert len(counted) == 3
    hour_passes(workspace_a)
    with workspace(workspace_a):
        erasing.erase([document.id])
    kept = stats.refresh(workspace_a)
    assert (kept.ready, kept.passages, kept.unsearchable) == (0, 0, 0)


def test_without_redis_the_failed_jobs_stay_as_they_are_known(workspace_a, monkeypatch):
    stats.refresh(workspace_a, jobs_failed=3)
    monkeypatch.setattr("tenants.jobs.django_rq.get_queue", lambda name: raises(Unreachable))
    assert failed_jobs.failed_by_workspace() is None
    sweeping.sweep(everything=True)
    WorkspaceStats.objects.update(refreshed_at=None)
    sweeping.sweep()
    kept = WorkspaceStats.objects.get(pk=workspace_a.pk)
    assert (kept.jobs_failed, kept.trouble_words) == (3, "It has no owner.")
    assert kept.refreshed_at is not None


def raises(error: type[Exception]) -> None:
    raise error


def test_a_document_with_fewer_pages_than_it_had_is_trouble(workspace_a, owner):
    with workspace(workspace_a):
        document = DocumentFactory(state=State.READY, pages=3)
        Terms.objects.create(document_id=document.pk, collection_id=document.collection_id, generation=1, payload=b"x")
    assert stats.refresh(workspace_a).trouble_words == "3 pages of ready documents are missing."


@pytest.mark.parametrize(
    ("of_tenant", "of_stats", "words"),
    [
        ({}, {"jobs_failed": 1}, "1 job failed."),
        ({}, {"jobs_failed": 2, "failed": 4}, "2 jobs failed."),
        ({}, {"failed": 4}, "4 documents failed."),
        ({"quota_documents": 10}, {"documents": 10}, "Its quota of documents is used up."),
        ({"quota_bytes": 10}, {"bytes": 9}, ""),
        ({"status": "suspended"}, {}, "It is suspended."),
        ({}, {"behind": True, "jobs_failed": 5}, "Its tables wait for an upgrade: run upgrade_workspaces."),
    ],
)
def test_the_worst_comes_first(of_tenant, of_stats, words):
    assert stats.worst(Tenant(**of_tenant), WorkspaceStats(**of_stats))[1] == words


def test_what_is_unfinished_for_too_long_is_trouble():
    now = timezone.now()
    assert stats.worst(Tenant(), WorkspaceStats(oldest_unfinished_at=now - timedelta(minutes=59))) == (0, "")
    assert stats.worst(Tenant(), WorkspaceStats(oldest_unfinished_at=now - timedelta(minutes=61)))[0] == stats.Trouble.STUCK


def test_no_owner_is_trouble(workspace_a):
    assert stats.refresh(workspace_a).trouble_words == "It has no owner."


def test_a_workspace_nobody_may_enter_is_judged_without_entering(workspace_a, owner):
    stats.refresh(workspace_a)
    Tenant.objects.filter(pk=workspace_a.pk).update(status="suspended")
    assert stats.refresh_closed() == 1
    assert stats.refresh_closed() == 0
    kept = WorkspaceStats.objects.get(pk=workspace_a.pk)
    assert (kept.trouble_words, kept.members) == ("It is suspended.", 1)


def test_closing_a_workspace_hides_neither_its_leak_nor_that_nobody_owns_it(workspace_a, owner):
    Tenant.objects.filter(pk=workspace_a.pk).update(status="suspended")
    check = IsolationCheck.objects.create(tenant=workspace_a, trigger="button", state="leaks")
    stats.refresh_closed()
    assert WorkspaceStats.objects.get(pk=workspace_a.pk).trouble == stats.Trouble.LEAK
    check.delete()
    User.objects.filter(pk=owner.pk).update(is_active=False)
    stats.refresh_closed()
    assert WorkspaceStats.objects.get(pk=workspace_a.pk).trouble == stats.Trouble.NO_OWNER


def test_a_workspace_does_not_see_them(workspace_a, workspace_b):
    stats.refresh(workspace_b)
    with workspace(workspace_a), pytest.raises(DatabaseError), transaction.atomic():
        WorkspaceStats.objects.count()
