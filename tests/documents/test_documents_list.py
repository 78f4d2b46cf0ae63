"""The list: filters, paging, live rows that stop asking, and a fixed number of queries."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.test import Client
from django.utils import timezone

from documents.models import Document
from tenants.ciphers import Cipher, ColumnCipher
from tenants.context import workspace
from tenants.models import Tenant
from tests.factories import CollectionFactory, DocumentFactory

Address = Callable[[str], str]
State = Document.State


@pytest.fixture
def documents(workspace_a: Any) -> list[Document]:
    with workspace(workspace_a):
        letters, reports = CollectionFactory(name="Letters"), CollectionFactory(name="Reports")
        return [
            DocumentFactory(title="An apple", collection=letters, state=State.READY),
            DocumentFactory(title="A pear", collection=reports, state=State.FAILED, reason="encrypted"),
            DocumentFactory(title="A plum", collection=reports, state=State.EMBEDDING, chunks_total=40, chunks_done=12),
        ]


def titles(response: Any) -> list[str]:
    return [document.title for document, _ in response.context["rows"]]


def test_it_works(client_viewer: Client, address: Address, documents: list[Document]) -> None:
    page = client_viewer.get(address("documents/"))
    assert sorted(titles(page)) == ["A pear", "A plum", "An apple"]
    text = page.content.decode()
    assert "The file is protected with a password" in text
    assert "12 of 40 passages" in text
    assert "An apple" not in text.partition("</title>")[0]


def test_viewers_see_no_upload_form(client_viewer: Client, client_editor: Client, address: Address) -> None:
    assert "data-dropzone" not in client_viewer.get(address("documents/")).content.decode()
    assert "data-dropzone" in client_editor.get(address("documents/")).content.decode()


def test_filters(client_viewer: Client, address: Address, documents: list[Document]) -> None:
    letters = documents[0].collection_id
    for query, expected in (
        (f"collection={letters}", ["An apple"]),
        ("state=failed", ["A pear"]),
        ("state=unfinished", ["A plum"]),
        (f"collection={letters}&state=failed", []),
        ("collection=nonsense&state=nonsense", ["A pear", "A plum", "An apple"]),
    ):
        assert sorted(titles(client_viewer.get(address(f"documents/?{query}")))) == expected
    assert "No document matches this filter." in client_viewer.get(address("documents/?state=cancelled")).content.decode()


def test_an_empty_workspace_says_what_to_do(client_editor: Client, client_viewer: Client, address: Address) -> None:
    assert "Upload some above" in client_editor.get(address("documents/")).content.decode()
    assert "Editors, admins and owners" in client_viewer.get(address("documents/")).content.decode()


def test_rows_are_asked_for_only_while_something_is_unfinished(
    client_viewer: Client, address: Address, documents: list[Document], workspace_a: Any
) -> None:
    rows = client_viewer.get(address("documents/rows/"))
    assert rows.status_code == 200
    assert 'hx-trigger="every 2s, documents-changed from:body"' in rows.content.decode()
    assert "<html" not in rows.content.decode()
    ended = client_viewer.get(address("documents/rows/?state=failed"))
    assert ended.status_code == 286
    assert 'hx-trigger="documents-changed from:body"' in ended.content.decode()


def test_fifty_a_page_newest_first(client_viewer: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        collection = CollectionFactory()
        for n in range(53):
            DocumentFactory(
                title=f"number {n}", collection=collection, state=State.READY, created_at=timezone.now() + timedelta(seconds=n)
            )
    first, second = (client_viewer.get(address(f"documents/?page={n}")) for n in (1, 2))
    assert (titles(first)[0], len(titles(first))) == ("number 52", 50)
    assert titles(second) == ["number 2", "number 1", "number 0"]
    assert titles(client_viewer.get(address("documents/?page=999"))) == titles(second)
    assert "1 to 50 of 53" in first.content.decode()


@pytest.mark.parametrize(
    ("role", "queries"),
    [
        ("viewer", 8),  # session, person, membership, collections, unfinished, all, rows, the switcher's workspaces
        ("editor", 11),  # and how much of the quota is used, which collections have fields, and how many are in the trash
        ("owner", 11),
    ],
)
def test_the_number_of_queries_does_not_grow(
    person: Callable[..., Any], sign_in: Callable[[Any], Client], address: Address, workspace_a: Any,
    django_assert_num_queries: Any, role: str, queries: int,
) -> None:  # fmt: skip
    Tenant.objects.filter(pk=workspace_a.pk).update(quota_documents=60)
    client = sign_in(person(role, workspace_a))
    client.get(address("documents/"))
    for _ in range(2):
        with workspace(workspace_a):
            for _ in range(20):
                DocumentFactory()
        with django_assert_num_queries(queries):
            client.get(address("documents/"))


def test_a_document_that_becomes_ready_while_the_rows_are_read_is_asked_for_again(
    client_viewer: Client, address: Address, documents: list[Document], workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from documents import views

    def paginator(found: Any, per_page: int) -> Any:
        made = Paginator(list(found), per_page)  # the rows are read, and only now the last one becomes ready
        Document.objects.filter(state__in=Document.UNFINISHED).update(state=Document.State.CANCELLED)
        return made

    monkeypatch.setattr(views, "Paginator", paginator)
    assert client_viewer.get(address("documents/rows/")).status_code == 200
    assert client_viewer.get(address("documents/rows/")).status_code == 286


def test_of_a_thousand_documents_only_what_is_shown_is_decrypted(
    client_viewer: Client, address: Address, workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Titles, and a few words of state, of the fifty on the page; and every collection's name, since they are sorted by it."""
    with workspace(workspace_a):
        collections = [CollectionFactory(name=f"Collection {number}") for number in range(3)]
        rows = [
            Document(title=f"Document {n}", file_name=f"{n}.txt", size=1, stored_name=f"n{n}", collection=collections[n % 3])
            for n in range(1000)
        ]
        Document.objects.bulk_create(rows)
    opened: list[tuple[str, ...]] = []
    one, many = Cipher.decrypt, ColumnCipher.decrypt

    def counted(cipher: Cipher, context: tuple[str, ...], blob: bytes) -> bytes:
        opened.append(context)
        return one(cipher, context, blob)

    def counted_of_column(column: ColumnCipher, pk: object, blob: bytes) -> bytes:
        opened.append((*column._place, str(pk)))
        return many(column, pk, blob)

    monkeypatch.setattr(Cipher, "decrypt", counted)
    monkeypatch.setattr(ColumnCipher, "decrypt", counted_of_column)
    for page in ("documents/", "documents/?page=3", "documents/rows/"):
        opened.clear()
        assert len(titles(client_viewer.get(address(page)))) == 50
        of_documents = {context for context in opened if context[0] == "documents_document"}
        assert len({context for context in of_documents if context[1] == "title"}) == 50
        assert len({context[2] for context in of_documents}) == 50
        assert len(of_documents) <= 4 * 50
        assert len({context for context in opened if context[0] == "documents_collection"}) == 3
    for page in ("collections/", "documents/trash/", ""):
        opened.clear()
        assert client_viewer.get(address(page)).status_code in (200, 403)
        assert not [context for context in opened if context[0] == "documents_document"]
