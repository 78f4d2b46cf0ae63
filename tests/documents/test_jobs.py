"""What Redis or a dead worker loses comes back from the database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.db import connection

from documents import ingestion, jobs, ledger
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
        assert jobs.queue_unfinished() == 2
        assert jobs.queue_unfinished() == 0, "what is in flight is not queued twice"
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
        assert jobs.queue_unfinished() == 5
        monkeypatch.setattr(redis, "execute_command", lambda *args, **kwargs: asked.append(args[1]) or execute(*args, **kwargs))
        assert jobs.queue_unfinished() == 0
    assert len(asked) <= 3


def test_a_job_queued_twice_does_no_harm(workspace_a: Any, run_jobs: Callable[[], int], model_dir: Path) -> None:
    with workspace(workspace_a):
        document = DocumentFactory()
        jobs.enqueue_ingest(document.id)
        jobs.enqueue_ingest(document.id)
    run_jobs()
    with workspace(workspace_a):
        assert Document.objects.get().state == State.READY
        assert Document.objects.get().attempts == 1


def test_a_job_for_a_deleted_document_ends_quietly(workspace_a: Any, run_jobs: Callable[[], int]) -> None:
    with workspace(workspace_a):
        document = DocumentFactory()
        jobs.enqueue_ingest(document.id)
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
        jobs.enqueue_ingest(document.id)
    assert run_jobs() == 1
    with workspace(workspace_a):
        document.refresh_from_db()
        assert (document.state, document.chunks_done, len(batches)) == (State.EMBEDDING, ingestion.BATCH, 2)
        jobs.enqueue_ingest(document.id)
    assert run_jobs() == 1
    assert len(batches) == 2, "a job of a closed workspace does nothing"
    set_status(Tenant.Status.ACTIVE)
    sweep()
    assert run_jobs() == 1
    with workspace(workspace_a):
        document.refresh_from_db()
        assert document.state == State.READY
        assert document.chunks_done == document.chunks_total > 2 * ingestion.BATCH
