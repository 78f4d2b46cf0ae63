"""A document's page: its text page by page, its passages by number, its state with what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from documents import ingestion
from documents.models import Document, Page
from search.models import Chunk
from tenants.context import workspace
from tests.documents import files
from tests.factories import DocumentFactory

Address = Callable[[str], str]
State = Document.State


@pytest.fixture
def document(workspace_a: Any, viewer: Any, model_dir: Path) -> Document:
    with workspace(workspace_a):
        made = DocumentFactory(
            content=files.pdf(["first <b>page</b>", "second page", ""]), file_name="a & b.pdf", created_by_id=viewer.pk
        )
        ingestion.ingest(made.id)
        return Document.objects.get(pk=made.pk)


def test_it_shows_the_first_page(client_viewer: Client, address: Address, document: Document) -> None:
    page = client_viewer.get(address(f"documents/{document.id}/"))
    text = page.content.decode()
    assert page.status_code == 200
    assert "first &lt;b&gt;page&lt;/b&gt;" in text
    assert "second page" not in text
    assert "Next: Page 2" in text
    assert "a &amp; b.pdf" in text
    assert "by Viewer" in text
    assert page["Cache-Control"] == "no-store"
    assert "a &amp; b" not in text.partition("</title>")[0]


def test_it_tells_what_happened(client_viewer: Client, address: Address, document: Document) -> None:
    text = client_viewer.get(address(f"documents/{document.id}/")).content.decode()
    told = re.sub(r"<[^>]+>|\s+", " ", text.partition("What happened")[2].partition("</table>")[0])
    assert re.search(r"Reading the file +Done .* 3 pages: 2 read, 1 without text", told)
    assert re.search(r"Embedding passages +Done .* 2 passages", told)


def test_a_passage_is_marked_and_has_an_anchor(
    client_viewer: Client, address: Address, document: Document, workspace_a: Any
) -> None:
    with workspace(workspace_a):
        passage = Chunk.objects.get(document_id=document.id, page=2)
    text = client_viewer.get(address(f"documents/{document.id}/?page=2&passage={passage.id}")).content.decode()
    assert f'id="passage-{passage.id}"' in text
    assert "<mark>second page</mark>" in text
    assert 'aria-label="Link to passage 2"' in text


def test_the_text_is_whole(client_viewer: Client, address: Address, workspace_a: Any, model_dir: Path) -> None:
    words = "\n\n".join(f"Paragraph {n}. " + "Some words follow here. " * 40 for n in range(6))
    with workspace(workspace_a):
        made = DocumentFactory(content=words.encode())
        ingestion.ingest(made.id)
    page = client_viewer.get(address(f"documents/{made.id}/")).context["page"]
    assert "".join(stretch.text for stretch in page.stretches) == words
    assert [stretch.number for stretch in page.stretches if stretch.passage] == list(range(1, 7))


@pytest.mark.parametrize("number", ["0", "999", "-1", "x", "²", "9" * 30])
def test_a_page_that_is_not_there_shows_the_nearest(
    client_viewer: Client, address: Address, document: Document, number: str
) -> None:
    assert client_viewer.get(address(f"documents/{document.id}/?page={number}")).status_code == 200


def test_a_page_without_text_says_so(client_viewer: Client, address: Address, document: Document) -> None:
    assert "This page has no text." in client_viewer.get(address(f"documents/{document.id}/?page=3")).content.decode()


def test_a_failed_document_says_what_happened_and_what_to_do(
    client_editor: Client, client_viewer: Client, address: Address, workspace_a: Any
) -> None:
    with workspace(workspace_a):
        locked = DocumentFactory(state=State.FAILED, reason="encrypted")
        stopped = DocumentFactory(state=State.FAILED, reason="timeout")
    text = client_editor.get(address(f"documents/{locked.id}/")).content.decode()
    assert "protected with a password" in text
    assert "Enter the password of a PDF on its page" in text
    assert ">Retry<" not in text
    assert ">Retry<" in client_editor.get(address(f"documents/{stopped.id}/")).content.decode()
    assert ">Retry<" not in client_viewer.get(address(f"documents/{stopped.id}/")).content.decode()


def test_its_state_is_live_until_it_ends(client_viewer: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        made = DocumentFactory(state=State.EMBEDDING, chunks_total=10, chunks_done=3)
    status = client_viewer.get(address(f"documents/{made.id}/status/"))
    assert status.status_code == 200
    assert "3 of 10 passages" in status.content.decode()
    with workspace(workspace_a):
        Document.objects.filter(pk=made.pk).update(state=State.READY)
    ended = client_viewer.get(address(f"documents/{made.id}/status/"))
    assert (ended.status_code, ended["HX-Refresh"]) == (286, "true")


def test_the_number_of_queries_does_not_grow_with_the_text(
    client_viewer: Client, address: Address, document: Document, workspace_a: Any, django_assert_max_num_queries: Any
) -> None:
    with workspace(workspace_a):
        long = DocumentFactory(content=("Some words follow here. " * 4000).encode())
        ingestion.ingest(long.id)
    with django_assert_max_num_queries(25) as few:
        client_viewer.get(address(f"documents/{document.id}/"))
    with django_assert_max_num_queries(len(few)):
        page = client_viewer.get(address(f"documents/{long.id}/")).content.decode()
    assert len(re.findall("page-passage-number", page)) > 3


def test_a_page_moved_into_another_document_is_not_shown_as_its_own(
    client_viewer: Client, address: Address, document: Document, workspace_a: Any, model_dir: Path
) -> None:
    with workspace(workspace_a):
        other = DocumentFactory(content=b"Words of quite another document.")
        ingestion.ingest(other.id)
        Page.objects.filter(document=other).update(document=document, number=9)
    client_viewer.raise_request_exception = False
    answer = client_viewer.get(address(f"documents/{document.id}/?page=9"))
    assert answer.status_code == 500
    assert b"quite another" not in answer.content
