"""The trash: out of everything at once, and back with everything."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from documents import access, dispatch, figures, importing, ingestion, jobs, ledger, quotas, series, trash
from documents.models import Document, Usage
from documents.receiving import collection_named
from search import candidates, querying
from search.models import Chunk, IndexEntry, Terms
from search.sources import CorpusText, sources
from tenants import receipts, stats
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.models import Membership, WorkspaceStats
from tests.factories import CollectionFactory, DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True)

Address = Callable[[str], str]
State = Document.State
TEXTS = {
    "Harbour": b"Ships tie up in the harbour at night and leave with the tide.",
    "Orchard": b"Apples and pears ripen in the orchard behind the house.",
    "Railway": b"The night train leaves the station at ten past eleven.",
}


@pytest.fixture
def library(workspace_a: Any, model_dir: Path) -> dict[str, Document]:
    """Three documents that are found."""
    with workspace(workspace_a):
        collection = CollectionFactory(name="Library")
        made = {title: DocumentFactory(title=title, content=text, collection=collection) for title, text in TEXTS.items()}
        for document in made.values():
            ingestion.ingest(document.id)
            document.refresh_from_db()
            assert document.state == State.READY
        quotas.recount()
    return made


def found(question: str, **options: Any) -> list[tuple[Any, int, float, float, float]]:
    results = querying.search(question, collections=sources().everything(), **options)
    return [
        (hit.document_id, hit.sequence, round(hit.score, 5), round(hit.dense, 5), round(hit.keyword, 5)) for hit in results.hits
    ]


def test_it_leaves_the_search_at_once_and_comes_back_the_same(library: dict[str, Document], in_workspace_a: Any) -> None:
    ships = library["Harbour"]
    before = {question: found(question) for question in ("ships at night", "apples", "train")}
    exactly = found("ships at night", exact=True)
    assert before["ships at night"][0][0] == ships.id
    assert trash.trash([ships.id], 7) == 1
    for question in before:
        assert ships.id not in [row[0] for row in found(question)]
    assert ships.id not in [row[0] for row in found("ships at night", exact=True)]
    assert Chunk.objects.filter(document_id=ships.id).exists(), "what is in the trash can come back"
    assert not Terms.objects.filter(document_id=ships.id).exists()
    assert trash.trash([ships.id], 7) == 0
    trash.restore([ships.id])
    assert {question: found(question) for question in before} == before
    assert found("ships at night", exact=True) == exactly


@pytest.mark.usefixtures("in_workspace_a")
def test_through_the_index_it_is_no_candidate_either(library: dict[str, Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of what lies in the trash stay in the index, and nearest though they are they are not shown."""
    monkeypatch.setattr(candidates, "SCAN_BELOW", 0)
    monkeypatch.setattr(candidates, "OVER_FETCH", 1)
    ships = library["Harbour"]
    trash.trash([ships.id], None)
    assert IndexEntry.objects.filter(document_id=ships.id).exists()
    assert {row[0] for row in found("ships in the harbour at night")} == {
        each.id for title, each in library.items() if title != "Harbour"
    }


def test_nobody_lists_opens_or_downloads_it(
    library: dict[str, Document], client_editor: Client, address: Address, workspace_a: Any
) -> None:
    ships = library["Harbour"]
    answer = client_editor.post(address(f"documents/{ships.id}/delete/"))
    assert answer.url == address("documents/")
    for path in ("", "status/", "download/"):
        assert client_editor.get(address(f"documents/{ships.id}/{path}")).status_code == 404
    for path in ("retry/", "cancel/", "delete/"):
        assert client_editor.post(address(f"documents/{ships.id}/{path}")).status_code == 404
    client_editor.get(address("documents/"))  # the toast
    for path in ("documents/", "documents/rows/"):
        text = client_editor.get(address(path)).content.decode()
        assert "Harbour" not in text
        assert "2 documents" in text
    collections = client_editor.get(address("collections/")).content.decode()
    assert collections.count('<td data-label="Documents" class="num">2</td>') == 1
    assert collections.count('<td data-label="Ready" class="num">2</td>') == 1
    with workspace(workspace_a):
        everything = sources().everything()
        assert sources().describe([ships.id], everything) == {}
        assert sources().hidden([ships.id], set()) == set()
        assert {"Harbour", str(ships.id)}.isdisjoint(sources().references(everything))


def test_a_toast_undoes_it(library: dict[str, Document], client_editor: Client, address: Address, workspace_a: Any) -> None:
    """A form in the page: it works without scripts."""
    ships = library["Harbour"]
    page = client_editor.post(address(f"documents/{ships.id}/delete/"), follow=True).content.decode()
    assert "“Harbour” is in the trash." in page
    (undo,) = re.findall(r'<div class="toast".*?action="([^"]+)"', page, re.DOTALL)
    assert undo == address(f"documents/{ships.id}/restore/")
    page = client_editor.post(undo, follow=True).content.decode()
    assert "“Harbour” is back, as it was." in page
    assert "toast" not in re.sub(r'class="toasts"|id="toasts"', "", page)
    with workspace(workspace_a):
        assert found("ships at night")[0][0] == ships.id
        events = list(Entry.objects.filter(event__startswith="document.").order_by("number").values_list("event", flat=True))
        assert events[-2:] == [Event.TRASHED, Event.RESTORED]
    assert client_editor.post(undo).status_code == 404


def test_the_page_lists_it_with_who_and_how_long(
    library: dict[str, Document], client_editor: Client, client_viewer: Client, address: Address
) -> None:
    empty = client_editor.get(address("documents/trash/")).content.decode()
    assert "The trash is empty" in empty
    client_editor.post(address(f"documents/{library['Harbour'].id}/delete/"))
    assert "Trash (1)" in client_editor.get(address("documents/")).content.decode()
    page = client_editor.get(address("documents/trash/")).content.decode()
    for words in ("Harbour", "Library", "Editor", "30 days", "counts against the limits"):
        assert words in page
    assert "Orchard" not in page
    assert client_viewer.get(address("documents/trash/")).status_code == 403
    assert "Trash" not in client_viewer.get(address("documents/")).content.decode()


def test_a_page_of_it_takes_a_fixed_number_of_queries(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        collection = CollectionFactory()
        DocumentFactory.create_batch(60, collection=collection, trashed_at=timezone.now())
    client_editor.get(address("documents/trash/"))  # what a process looks up once
    with CaptureQueriesContext(connection) as many:
        page = client_editor.get(address("documents/trash/")).content.decode()
    assert "1 to 50 of 60" in page
    with CaptureQueriesContext(connection) as few:
        client_editor.get(address("documents/trash/?page=2"))
    assert len(many) == len(few)


def test_what_is_worked_on_is_cancelled_and_can_be_retried(
    client_editor: Client, address: Address, workspace_a: Any, model_dir: Path
) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(content=b"Half way there.", state=State.EMBEDDING)
    client_editor.post(address(f"documents/{document.id}/delete/"))
    with workspace(workspace_a):
        assert Document.objects.get(pk=document.id).state == State.CANCELLED
        assert ledger.retry_all([document.id]) == []
        assert ledger.begin(document.id) is None
        assert dispatch.queue_unfinished() == 0
    page = client_editor.post(address(f"documents/{document.id}/restore/"), {"from": "trash"}, follow=True).content.decode()
    assert "retry it to make it searchable" in page
    assert address(f"documents/{document.id}/retry/") in page
    client_editor.post(address(f"documents/{document.id}/retry/"))
    with workspace(workspace_a):
        ingestion.ingest(document.id)
        assert found("half way")[0][0] == document.id


def test_a_restricted_collection_s_trash_is_for_those_who_see_it(
    client_owner: Client, client_editor: Client, editor: Any, owner: Any, address: Address, workspace_a: Any
) -> None:
    with workspace(workspace_a):
        collection = CollectionFactory(name="Board")
        secret = DocumentFactory(title="Minutes", collection=collection, trashed_at=timezone.now())
        access.set_access(collection, Membership.objects.get(user_id=owner.pk), restricted=True)
    assert "Minutes" in client_owner.get(address("documents/trash/")).content.decode()
    assert "Minutes" not in client_editor.get(address("documents/trash/")).content.decode()
    assert client_editor.post(address(f"documents/{secret.id}/restore/")).status_code == 404
    assert client_editor.get(address(f"documents/{secret.id}/erase/")).status_code == 404
    client_editor.post(address("documents/trash/empty/"))
    with workspace(workspace_a):
        assert Document.objects.filter(pk=secret.id).exists()


def test_what_is_taken_out_before_its_turn_comes_is_not_erased(
    client_editor: Client, address: Address, workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody restores it while the keys' fingerprints are fetched, which may take long."""
    with workspace(workspace_a):
        kept, _ = (DocumentFactory(trashed_at=timezone.now() - timedelta(days=1)) for _ in range(2))
    fingerprints = receipts.key_fingerprints

    def meanwhile(tenant: Any) -> Any:
        trash.restore([kept.id])
        return fingerprints(tenant)

    monkeypatch.setattr(receipts, "key_fingerprints", meanwhile)
    page = client_editor.post(address("documents/trash/empty/"), follow=True).content.decode()
    assert "1 document erased." in page
    page = client_editor.post(address(f"documents/{kept.id}/erase/"), follow=True)
    assert page.status_code == 404
    with workspace(workspace_a):
        assert list(Document.objects.values_list("id", flat=True)) == [kept.id]


def test_only_what_somebody_was_told_of_is_erased(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        DocumentFactory(trashed_at=timezone.now())
    page = client_editor.get(address("documents/trash/empty/")).content.decode()
    seen = re.findall(r'name="seen" value="([^"]+)"', page)
    with workspace(workspace_a):
        later = DocumentFactory(trashed_at=timezone.now())
    client_editor.post(address("documents/trash/empty/"), {"seen": html.unescape(seen[0])})
    with workspace(workspace_a):
        assert Document.objects.get().pk == later.pk


@pytest.mark.usefixtures("in_workspace_a")
def test_figures_count_it_where_it_counts(library: dict[str, Document]) -> None:
    usage = Usage.objects.get()
    trash.trash([library["Harbour"].id], None)
    counted = figures.count(WorkspaceStats())
    assert (counted["documents"], counted["ready"], counted["unsearchable"], counted["pages_missing"]) == (3, 2, 0, 0)
    assert counted["passages"] == counted["entries"] == 2
    assert counted["bytes"] == sum(map(len, TEXTS.values()))
    quotas.recount()
    now = Usage.objects.get()
    assert (now.documents, now.bytes) == (usage.documents, usage.bytes), "its place is kept until it is erased"


def test_staff_see_no_trouble_in_it(library: dict[str, Document], workspace_a: Any, owner: Any) -> None:
    with workspace(workspace_a):
        trash.trash([library["Harbour"].id], None)
    assert stats.refresh(workspace_a).trouble_words == ""


@pytest.mark.usefixtures("in_workspace_a")
def test_what_is_imported_again_is_taken(model_dir: Path) -> None:
    texts = [CorpusText("doc-1", "One", "The first text.")]
    importing.import_texts(texts, "Corpus")
    assert importing.import_texts(texts, "Corpus").already == 1
    trash.trash(collection_named("Corpus").documents.values_list("id", flat=True), None)
    again = importing.import_texts(texts, "Corpus")
    assert (again.already, len(again.documents)) == (0, 1)


@pytest.mark.usefixtures("in_workspace_a")
def test_after_its_days_it_is_erased_and_not_before(library: dict[str, Document], settings: Any) -> None:
    early, late = library["Harbour"], library["Orchard"]
    trash.trash([early.id, late.id], None)
    past = timezone.now() - timedelta(days=settings.TRASH_DAYS, seconds=1)
    Document.objects.filter(pk=early.id).update(trashed_at=past)
    jobs.sweep()
    assert set(Document.objects.values_list("id", flat=True)) == {late.id, library["Railway"].id}
    assert Entry.objects.filter(event=Event.ERASED).count() == 1


def test_a_whole_collection_can_go_there_and_stays(
    library: dict[str, Document], client_owner: Client, address: Address, workspace_a: Any
) -> None:
    collection = library["Harbour"].collection_id
    page = client_owner.get(address(f"collections/{collection}/delete/")).content.decode()
    assert "Move 3 documents to the trash" in page
    with CaptureQueriesContext(connection) as queries:
        page = client_owner.post(address(f"collections/{collection}/delete/"), {"only": "trash"}, follow=True).content.decode()
    assert "3 documents of “Library” moved to the trash" in page
    assert len(queries) < 60
    with workspace(workspace_a):
        assert Document.objects.filter(trashed_at=None).count() == 0
        assert found("ships at night") == []
    assert "and 3 in the trash" in client_owner.get(address(f"collections/{collection}/delete/")).content.decode()


def test_failures_are_tidied_up_and_the_version_in_use_stays(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        used = DocumentFactory(title="Minutes", state=State.READY, is_current=True)
        of = {"title": "Minutes", "collection": used.collection, "series": used.pk, "is_current": False}
        failed = [DocumentFactory(**of, version=number, state=State.FAILED, reason="damaged") for number in (2, 4)]
        working = DocumentFactory(**of, version=3)
    every_failure = {"which": "all", "query": "state=failed", "do": "trash"}
    page = client_editor.post(address("documents/act/"), every_failure, follow=True).content.decode()
    assert "1 document moved to the trash." in page
    assert "Move this version to trash" not in client_editor.get(address(f"documents/{used.pk}/")).content.decode()
    with workspace(workspace_a):
        left = Document.objects.filter(trashed_at=None)
        assert set(series.listed(left)) == set(left) == {used, working}, "an older failure, which no list shows, goes along"
    page = client_editor.get(address("documents/trash/")).content.decode()
    assert page.count("Restore Minutes") == 1
    assert "version 4 alone" in page
    client_editor.post(address(f"documents/{failed[1].pk}/restore/"))
    page = client_editor.get(address(f"documents/{failed[1].pk}/")).content.decode()
    assert "Move this version to trash" in page
    page = client_editor.post(address(f"documents/{used.pk}/delete/"), {"alone": "1"}, follow=True).content.decode()
    assert "nothing was moved" in page, "what was not ready when the button was shown"
    page = client_editor.post(address(f"documents/{failed[1].pk}/delete/"), {"alone": "1"}, follow=True).content.decode()
    assert "Version 4 of “Minutes” is in the trash." in page
    client_editor.post(address(f"documents/{failed[1].pk}/erase/"))
    with workspace(workspace_a):
        assert set(Document.objects.all()) == {used, working}
        assert trash.trash([used.pk], None) == 1
        assert not Document.objects.filter(trashed_at=None).exists()


def test_pages_and_figures_count_a_document_once_and_what_its_erasure_removes_in_full(
    client_owner: Client, address: Address, workspace_a: Any
) -> None:
    with workspace(workspace_a):
        first = DocumentFactory(state=State.READY, is_current=False)
        of = {"collection": first.collection, "series": first.pk}
        DocumentFactory(**of, version=2, is_current=False, state=State.FAILED, reason="damaged")
        last = DocumentFactory(**of, version=3, state=State.READY, title="Minutes")
        counted = figures._documents()
        assert (counted["documents"], counted["ready"], counted["failed"]) == (3, 1, 0), "a quota counts every version"
    collections = client_owner.get(address("collections/")).content.decode()
    assert '<td data-label="Documents" class="num">1</td>' in collections
    assert '<td data-label="Ready" class="num">1</td>' in collections
    going = address(f"collections/{first.collection_id}/delete/")
    assert "Move 1 document to the trash" in client_owner.get(going).content.decode()
    assert "1 document of" in client_owner.post(going, {"only": "trash"}, follow=True).content.decode()
    assert "and 1 in the trash" in client_owner.get(going).content.decode()
    assert "Trash (1)" in client_owner.get(address("documents/")).content.decode()
    size = 3 * len(b"Some words in a document.")
    assert f"all 3 versions: their files ({size}" in client_owner.get(address(f"documents/{last.pk}/erase/")).content.decode()
    page = client_owner.get(address("documents/trash/empty/")).content.decode()
    assert page.count("Erase 1 document") == 2
    assert f"with every version: 3 files ({size}" in page
    assert "1 document erased." in client_owner.post(address("documents/trash/empty/"), follow=True).content.decode()
