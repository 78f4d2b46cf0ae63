"""What Redis or a dead worker loses comes back from the database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.db import connection
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from documents import dispatch, ingestion, jobs, ledger, queueing
from documents.models import Document
from tenants.context import public_context, workspace
from tenants.models import Tenant
from tenants.sweeping import sweep
from tests.factories import DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True)
State = Document.State


def queued() -> list[str]:
    return django_rq.get_queue("ingest").job_ids


def test_a_lost_queue_is_rebuilt(workspace_a: Any, run_jobs: Callable[[], int], model_dir: Path) -> None:
    with workspace(workspace_a):
        documents = [DocumentFactory(state=state) for state in (State.QUEUED, State.EXTRACTING)]
        DocumentFactory(state=State.READY)
        DocumentFactory(state=State.FAILED, reason="encrypted")
        assert dispatch.queue_unfinished() == 2
        assert dispatch.queue_unfinished() == 0, "what is in flight is not queued twice"
    assert sorted(queued()) == sorted(f"{workspace_a.id.hex}-ingest-{document.id}" for document in documents)
    assert run_jobs() == 2
    with workspace(workspace_a):
        assert Document.objects.filter(state=State.READY).count() == 3


def test_redis_is_asked_once_however_many_documents_wait(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    redis = type(django_rq.get_queue("ingest").connection)
    execute = redis.execute_command
    with workspace(workspace_a):
        DocumentFactory.create_batch(5)
        assert dispatch.queue_unfinished() == 2
        monkeypatch.setattr(redis, "execute_command", lambda *args, **kwargs: asked.append(args[1]) or execute(*args, **kwargs))
        assert dispatch.queue_unfinished() == 0
    assert len(asked) <= 4


def test_a_job_queued_twice_does_no_harm(workspace_a: Any, run_jobs: Callable[[], int], model_dir: Path) -> None:
    with workspace(workspace_a):
        document = DocumentFactory()
        dispatch.enqueue_ingest(document.id)
        dispatch.enqueue_ingest(document.id)
    run_jobs()
    with workspace(workspace_a):
        assert Document.objects.get().state == State.READY
        assert Document.objects.get().attempts == 1


def test_a_job_for_a_deleted_document_ends_quietly(workspace_a: Any, run_jobs: Callable[[], int]) -> None:
    with workspace(workspace_a):
        document = DocumentFactory()
        dispatch.enqueue_ingest(document.id)
        Document.objects.all().delete()
    assert run_jobs() == 1


def test_the_sweep_removes_orphans_once_an_hour(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[set[str]] = []
    monkeypatch.setattr("documents.storage.remove_orphans", calls.append)
    with workspace(workspace_a):
        document = DocumentFactory(state=State.READY)
        jobs.sweep()
        jobs.sweep()
    assert calls == [{document.stored_name}]


@pytest.mark.parametrize("status", [Tenant.Status.SUSPENDED, Tenant.Status.ERASING])
def test_a_job_stops_at_its_next_batch_when_the_workspace_closes_and_goes_on_after(
    status: str, workspace_a: Any, run_jobs: Callable[[], int], model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workspace is closed from elsewhere while the second batch is on its way."""
    monkeypatch.setattr("workspace.erasure.erase", lambda tenant, **more: None)  # the worker would go through with it
    monkeypatch.setattr(ingestion, "BATCH", 4)
    advance, batches = ledger.advance, []

    def set_status(new: str) -> None:
        with public_context():
            Tenant.objects.filter(pk=workspace_a.pk).update(status=new)

    def advancing(document_id: Any, **values: Any) -> None:
        batches.append(document_id)
        if len(batches) == 2:
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(lambda: (set_status(status), connection.close())).result()
        advance(document_id, **values)

    monkeypatch.setattr(ledger, "advance", advancing)
    with workspace(workspace_a):
        document = DocumentFactory(content="\n\n".join(f"Paragraph {n}. " + "words " * 200 for n in range(12)).encode())
        dispatch.enqueue_ingest(document.id)
    assert run_jobs() == 1
    with workspace(workspace_a):
        document.refresh_from_db()
        assert (document.state, document.chunks_done, len(batches)) == (State.EMBEDDING, ingestion.BATCH, 2)
        dispatch.enqueue_ingest(document.id)
    assert run_jobs() == 1
    assert len(batches) == 2, "a job of a closed workspace does nothing"
    set_status(Tenant.Status.ACTIVE)
    sweep()
    assert run_jobs() == 1
    with workspace(workspace_a):
        document.refresh_from_db()
        assert document.state == State.READY
        assert document.chunks_done == document.chunks_total > 2 * ingestion.BATCH


# ---------------------------------------------------------------- taking turns


@pytest.fixture
def worked_on(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Documents in the order in which they were worked on; the work is to cancel them, which needs no model."""
    done: list[Any] = []

    def ingest(document_id: Any) -> bool:
        if document_id in done or not Document.objects.filter(pk=document_id, state__in=Document.UNFINISHED).exists():
            return True
        done.append(document_id)
        return ledger.cancel_all([document_id])

    monkeypatch.setattr(ingestion, "ingest", ingest)
    return done


def test_one_document_does_not_wait_for_another_workspaces_thousands(
    workspace_a: Any, workspace_b: Any, run_jobs: Callable[[], int], worked_on: list[Any]
) -> None:
    with workspace(workspace_a):
        many = DocumentFactory.create_batch(12)
        assert dispatch.queue_unfinished() == 2
        assert dispatch.queue_unfinished() == 0
    with workspace(workspace_b):
        one = DocumentFactory()
        assert dispatch.queue_unfinished() == 1
    assert run_jobs() == 13
    assert worked_on.index(one.id) == 2
    assert [each for each in worked_on if each != one.id] == [document.id for document in many], "oldest first"


def test_what_a_person_uploads_goes_before_what_a_command_imports(
    workspace_a: Any, owner: Any, run_jobs: Callable[[], int], worked_on: list[Any]
) -> None:
    with workspace(workspace_a):
        imported = DocumentFactory.create_batch(5)
        dispatch.queue_unfinished()
        uploaded = DocumentFactory(created_by_id=owner.pk)
        assert queueing.places([uploaded.id, imported[0].id]) == {uploaded.id: 1, imported[0].id: 2}
        dispatch.queue_unfinished()
    run_jobs()
    assert worked_on.index(uploaded.id) == 2, "after the two that were in Redis"
    assert [each for each in worked_on if each != uploaded.id] == [document.id for document in imported]


def test_with_more_workers_a_workspace_keeps_all_of_them_busy(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.jobs.workers", lambda: 4)
    with workspace(workspace_a):
        DocumentFactory.create_batch(7)
        assert dispatch.queue_unfinished() == 5


def test_what_redis_lost_in_the_middle_of_a_batch_comes_back(
    workspace_a: Any, run_jobs: Callable[[], int], worked_on: list[Any]
) -> None:
    with workspace(workspace_a):
        DocumentFactory.create_batch(5)
        dispatch.queue_unfinished()
        django_rq.get_queue("ingest").connection.flushdb()
        assert dispatch.queue_unfinished() == 2
    run_jobs()
    assert len(worked_on) == 5


def test_without_redis_nothing_fails_and_documents_wait(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> int:
        raise RedisConnectionError("away")

    monkeypatch.setattr("tenants.jobs.workers", away)
    with workspace(workspace_a):
        DocumentFactory()
        assert dispatch.queue_unfinished() == 0


def test_a_document_that_has_to_wait_pulls_no_other_into_the_queue(
    workspace_a: Any, run_jobs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the worker would turn in circles while a key service is away."""
    monkeypatch.setattr(ingestion, "_has_keys", lambda document_id: False)
    with workspace(workspace_a):
        DocumentFactory.create_batch(4)
        dispatch.queue_unfinished()
    assert run_jobs() == 2


def test_paused_nothing_is_begun_and_resumed_all_is_done(
    workspace_a: Any, run_jobs: Callable[[], int], model_dir: Path
) -> None:
    with workspace(workspace_a):
        first, second, third = DocumentFactory.create_batch(3)
        assert dispatch.queue_unfinished() == 2
        assert queueing.pause()
        assert not queueing.pause()
        assert dispatch.queue_unfinished() == 0
    assert run_jobs() == 2, "what is in the queue already"
    with workspace(workspace_a):
        assert set(Document.objects.values_list("state", "attempts")) == {(State.QUEUED, 0)}
        ledger.cancel_all([first.id])
        assert queueing.resume()
        assert not queueing.resume()
        assert dispatch.queue_unfinished() == 2
    run_jobs()
    with workspace(workspace_a):
        assert {Document.objects.get(pk=document.pk).state for document in (second, third)} == {State.READY}


def test_what_waits_for_its_time_is_not_queued_before(workspace_a: Any) -> None:
    with workspace(workspace_a):
        DocumentFactory(retry_at=timezone.now() + timedelta(minutes=1))
        due = DocumentFactory(retry_at=timezone.now())
        assert dispatch.queue_unfinished() == 1
    assert queued() == [f"{workspace_a.id.hex}-ingest-{due.id}"]
