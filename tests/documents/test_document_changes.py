"""Delete, retry and cancel from the screen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.test import Client

from documents import ingestion
from documents.models import Document, Page
from search.models import Chunk, IndexEntry, Terms, VectorIndex
from tenants.context import workspace
from tests.factories import DocumentFactory

Address = Callable[[str], str]
State = Document.State


@pytest.mark.django_db(transaction=True)
def test_delete(
    client_editor: Client, address: Address, workspace_a: Any, listed: Callable[[], list[Path]], model_dir: Path
) -> None:
    with workspace(workspace_a):
        gone, kept = DocumentFactory(title="Going"), DocumentFactory(title="Staying")
        for document in (gone, kept):
            ingestion.ingest(document.id)
        before = VectorIndex.objects.get().generation
    confirm = client_editor.get(address(f"documents/{gone.id}/delete/")).content.decode()
    assert "It cannot be undone." in confirm
    assert "1 passage with" in confirm
    answer = client_editor.post(address(f"documents/{gone.id}/delete/"), follow=True)
    assert "“Going” is deleted." in answer.content.decode()
    with workspace(workspace_a):
        for model in (Page, Chunk, IndexEntry, Terms):
            assert not model.objects.filter(document_id=gone.id).exists()
            assert model.objects.filter(document_id=kept.id).exists()
        assert list(Document.objects.values_list("id", flat=True)) == [kept.id]
        assert VectorIndex.objects.get().generation == before + 1
    assert [path.name for path in listed()] == [kept.stored_name]
    assert client_editor.get(address(f"documents/{gone.id}/")).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_retry(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(state=State.FAILED, reason="timeout")
    answer = client_editor.post(address(f"documents/{document.id}/retry/"))
    assert answer.url == address(f"documents/{document.id}/")
    with workspace(workspace_a):
        assert Document.objects.get().state == State.QUEUED
    assert django_rq.get_queue("ingest").job_ids == [f"{workspace_a.id.hex}-ingest-{document.id}"]


def test_retry_of_what_cannot_heal_is_refused(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(state=State.FAILED, reason="encrypted")
    answer = client_editor.post(address(f"documents/{document.id}/retry/"), follow=True)
    assert "can be retried" in answer.content.decode()
    with workspace(workspace_a):
        assert Document.objects.get().state == State.FAILED


@pytest.mark.parametrize("state", [State.QUEUED, State.EXTRACTING, State.EMBEDDING])
def test_cancel(client_editor: Client, address: Address, workspace_a: Any, state: State) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(state=state)
    client_editor.post(address(f"documents/{document.id}/cancel/"))
    with workspace(workspace_a):
        assert Document.objects.get().state == State.CANCELLED


def test_cancel_comes_too_late(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(state=State.READY)
    answer = client_editor.post(address(f"documents/{document.id}/cancel/"), follow=True)
    assert "had ended before" in answer.content.decode()


def test_from_the_list_it_goes_back_to_the_list(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory()
    given = {"from": "documents", "query": "state=unfinished&page=2&next=https://example.org"}
    answer = client_editor.post(address(f"documents/{document.id}/cancel/"), given)
    assert answer.url == address("documents/?state=unfinished&page=2")
