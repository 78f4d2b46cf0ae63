"""Delete, retry and cancel from the screen."""

from collections.abc import Callable
from typing import Any

import django_rq
import pytest
from django.test import Client

from documents.models import Document
from tenants.context import workspace
from tests.factories import DocumentFactory

Address = Callable[[str], str]
State = Document.State


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
    assert "can be tried again" in answer.content.decode()
    with workspace(workspace_a):
        assert Document.objects.get().state == State.FAILED


@pytest.mark.parametrize("state", [State.QUEUED, State.EXTRACTING, State.EMBEDDING])
def test_cancel(client_editor: Client, address: Address, workspace_a: Any, state: State) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(state=state)
    client_editor.post(address(f"documents/{document.id}/cancel/"))
    with workspace(workspace_a):
        assert Document.objects.get().state == State.CANCELLED


def test_cancelling_all_means_versions_that_no_list_shows(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        first = DocumentFactory(state=State.READY)
        for number in (2, 3):
            DocumentFactory(collection=first.collection, series=first.pk, version=number, is_current=False)
    client_editor.post(address("documents/act/"), {"which": "all", "do": "cancel", "query": "state=unfinished"})
    with workspace(workspace_a):
        states = Document.objects.order_by("version").values_list("state", flat=True)
        assert list(states) == [State.READY, State.CANCELLED, State.CANCELLED]


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
