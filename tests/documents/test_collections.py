"""Collections: made, renamed, deleted with what is in them; names unique without the database reading them."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from documents import erasing
from documents.models import Collection, Document
from documents.receiving import collection_named, create_collection
from search import indexing
from tenants.context import workspace
from tenants.errors import Refused
from tests.factories import CollectionFactory, DocumentFactory

Address = Callable[[str], str]


def names(workspace_a: Any) -> list[str]:
    with workspace(workspace_a):
        return sorted(collection.name for collection in Collection.objects.all())


def test_create(client_editor: Client, address: Address, workspace_a: Any) -> None:
    assert client_editor.post(address("collections/create/"), {"name": "  Letters  2024 "}).url == address("collections/")
    assert names(workspace_a) == ["Letters 2024"]
    assert "Letters 2024" in client_editor.get(address("collections/")).content.decode()


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "Give the collection a name."), ("x" * 101, "at most 100 characters"), ("LETTERS", "already a collection")],
)
def test_a_bad_name_is_refused(client_editor: Client, address: Address, workspace_a: Any, name: str, message: str) -> None:
    with workspace(workspace_a):
        create_collection("Letters")
    answer = client_editor.post(address("collections/create/"), {"name": name})
    assert answer.status_code == 422
    assert message in answer.content.decode()
    assert names(workspace_a) == ["Letters"]


def test_rename(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        letters, _ = create_collection("Letters"), create_collection("Reports")
    path = address(f"collections/{letters.id}/rename/")
    assert "Letters" in client_editor.get(path).content.decode()
    assert client_editor.post(path, {"name": "reports"}).status_code == 422
    assert client_editor.post(path, {"name": "LETTERS"}).status_code == 302
    assert names(workspace_a) == ["LETTERS", "Reports"]


@pytest.mark.django_db(transaction=True)
def test_delete_with_its_documents(
    client_owner: Client, address: Address, workspace_a: Any, listed: Callable[[], list[Path]]
) -> None:
    with workspace(workspace_a):
        going, staying = CollectionFactory(name="Going"), CollectionFactory(name="Staying")
        DocumentFactory.create_batch(3, collection=going)
        kept = DocumentFactory(collection=staying)
    path = address(f"collections/{going.id}/delete/")
    assert "everything in it: 3 documents" in client_owner.get(path).content.decode()
    answer = client_owner.post(path, follow=True)
    assert "with 3 documents" in answer.content.decode()
    assert answer.redirect_chain[-1][0].startswith(address("receipts/"))
    with workspace(workspace_a):
        assert list(Document.objects.values_list("id", flat=True)) == [kept.id]
    assert names(workspace_a) == ["Staying"]
    assert [found.name for found in listed()] == [kept.stored_name]


@pytest.mark.django_db(transaction=True)
def test_documents_are_locked_before_the_index(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finishes a document locks its row, then the index: the other way round the two would wait for each other."""
    free: list[int] = []

    def look(ids: list[Any]) -> indexing.Removed:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(rows_nobody_holds).result())
        return indexing.Removed()

    def rows_nobody_holds() -> int:
        try:
            with workspace(workspace_a), transaction.atomic():
                return len(Document.objects.select_for_update(skip_locked=True))
        finally:
            connection.close()

    monkeypatch.setattr(erasing, "BATCH", 2)
    monkeypatch.setattr(indexing, "remove", look)
    with workspace(workspace_a):
        going = CollectionFactory()
        DocumentFactory.create_batch(5, collection=going)
        assert erasing.erase_collection(going).documents == 5
    assert free == [0, 0, 0]


@pytest.mark.usefixtures("in_workspace_a")
def test_deleting_twice_at_once_is_no_mistake() -> None:
    going = CollectionFactory()
    DocumentFactory(collection=going)
    assert erasing.erase_collection(Collection.objects.get(pk=going.pk)).documents == 1
    assert erasing.erase_collection(going).documents == 0


@pytest.mark.usefixtures("in_workspace_a")
def test_names_are_unique_and_unreadable_in_the_database() -> None:
    first = collection_named("Geheime Öfen")
    assert collection_named("geheime ÖFEN") == first
    with pytest.raises(Refused):
        create_collection("GEHEIME Öfen")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, name_digest FROM documents_collection")
        stored = b"".join(bytes(value) for value in cursor.fetchone())
    assert b"fen" not in stored.lower()


def test_counts_in_a_fixed_number_of_queries(
    client_viewer: Client, address: Address, workspace_a: Any, django_assert_max_num_queries: Any
) -> None:
    with workspace(workspace_a):
        for n in range(10):
            DocumentFactory(state="ready" if n % 2 else "queued")
    with django_assert_max_num_queries(16):
        page = client_viewer.get(address("collections/"))
    assert [(row.documents_total, row.documents_ready) for row in page.context["rows"]].count((1, 1)) == 5


def test_a_file_goes_to_documents_unless_somebody_chooses(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        create_collection("Archive")
    page = client_editor.get(address("documents/upload/")).content.decode()
    names = re.findall(r"<option[^>]*>([^<]+)</option>", page)
    assert names[:2] == ["Documents", "Archive"]
