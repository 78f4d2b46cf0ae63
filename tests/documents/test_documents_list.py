"""The list: filters, paging, live rows that stop asking, and a fixed number of queries."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.paginator import Paginator
from django.test import Client
from django.utils import timezone

from documents import ledger, queueing, storage
from documents.models import Document, Queue
from documents.reasons import Reason
from tenants.audit.events import Event
from tenants.audit.models import Entry
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
    return [document.title for document, *_ in response.context["rows"]]


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
    with workspace(workspace_a):
        queueing.pause()
    assert "every 10s" in client_viewer.get(address("documents/rows/")).content.decode()
    with workspace(workspace_a):
        queueing.resume()
        ledger.cancel_all([documents[2].id])
    ended = client_viewer.get(address("documents/rows/"))
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
        # session, person, membership, collections, queue, batch, failures, all, rows, places, the switcher's workspaces
        ("viewer", 11),
        ("editor", 14),  # and how much of the quota is used, which collections have fields, and how many are in the trash
        ("owner", 14),
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


# ---------------------------------------------------------------- what failed


def words(response: Any) -> str:
    return re.sub(r"<[^>]+>|\s+", " ", response.content.decode())


@pytest.fixture
def failed(workspace_a: Any) -> list[Document]:
    """Two that took too long, one that is encrypted, and one that is ready."""
    with workspace(workspace_a):
        collection = CollectionFactory(name="Letters")
        return [
            DocumentFactory(title=f"Letter {n}", collection=collection, state=state, reason=reason)
            for n, (state, reason) in enumerate(
                [("failed", "timeout"), ("failed", "encrypted"), ("failed", "timeout"), ("ready", "")]
            )
        ]


def states(workspace_a: Any, documents: list[Document]) -> list[str]:
    with workspace(workspace_a):
        found = dict(Document.objects.values_list("id", "state"))
    return [found[document.id] for document in documents]


def test_a_filter_that_is_not_there_any_more_widens_nothing(
    client_editor: Client, address: Address, failed: list[Document], workspace_a: Any
) -> None:
    before = states(workspace_a, failed)
    sent = {"which": "all", "do": "trash", "query": f"collection={uuid4()}"}
    page = client_editor.post(address("documents/act/"), sent, follow=True).content.decode()
    assert "Nothing was changed. Choose again." in page
    assert states(workspace_a, failed) == before
    with workspace(workspace_a):
        assert not Document.objects.filter(trashed_at__isnull=False).exists()


def test_one_that_is_retried_does_not_begin_the_batch_anew(
    client_editor: Client, address: Address, failed: list[Document], workspace_a: Any
) -> None:
    began = timezone.now() - timedelta(minutes=3)
    with workspace(workspace_a):
        DocumentFactory(created_at=began, state=Document.State.EMBEDDING)
        Queue.objects.create(id=1, began_at=began)
    client_editor.post(address("documents/act/"), {"which": "all", "do": "retry", "query": ""})
    with workspace(workspace_a):
        assert Queue.objects.get().began_at == began


def test_what_failed_is_grouped_by_reason(client_editor: Client, address: Address, failed: list[Document]) -> None:
    page = client_editor.get(address("documents/"))
    assert [(group.documents, group.can_be_retried) for group in page.context["failures"]] == [(2, True), (1, False)]
    assert "3 documents failed" in words(page)
    assert "Reading the file took too long and was stopped." in words(page)
    query = page.context["failures"][0].query
    assert sorted(titles(client_editor.get(address(f"documents/?{query}")))) == ["Letter 0", "Letter 2"]
    assert client_editor.get(address("documents/?state=ready")).context["failures"] == []


def test_a_group_is_retried_at_once(client_editor: Client, address: Address, failed: list[Document], workspace_a: Any) -> None:
    query = client_editor.get(address("documents/")).context["failures"][0].query
    answer = client_editor.post(address("documents/act/"), {"do": "retry", "which": "all", "query": query}, follow=True)
    assert "2 documents queued again." in words(answer)
    assert states(workspace_a, failed) == ["queued", "failed", "queued", "ready"]
    with workspace(workspace_a):
        assert Entry.objects.get(event=Event.RETRIED).details["about"]["documents"] == 2


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        ("retry", ["queued", "failed", "failed", "ready"]),
        ("trash", ["failed", "failed", "failed", "ready"]),
        ("cancel", ["failed", "failed", "failed", "ready"]),
        ("nonsense", ["failed", "failed", "failed", "ready"]),
    ],
)
def test_what_is_ticked(
    do: str, expected: list[str], client_editor: Client, address: Address, failed: list[Document], workspace_a: Any
) -> None:
    ticked = [str(failed[0].id), str(failed[3].id), "nonsense"]
    client_editor.post(address("documents/act/"), {"do": do, "which": "chosen", "document": ticked})
    assert states(workspace_a, failed) == expected
    with workspace(workspace_a):
        trashed = set(Document.objects.filter(trashed_at__isnull=False).values_list("id", flat=True))
    assert trashed == ({failed[0].id, failed[3].id} if do == "trash" else set())


def test_nothing_ticked_is_said(client_editor: Client, address: Address, failed: list[Document]) -> None:
    answer = client_editor.post(address("documents/act/"), {"do": "trash", "which": "chosen"}, follow=True)
    assert "No document was chosen." in words(answer)


def test_the_filter_is_kept(client_editor: Client, address: Address, failed: list[Document]) -> None:
    answer = client_editor.post(address("documents/act/"), {"do": "cancel", "which": "all", "query": "state=failed&q=x"})
    assert answer["Location"].endswith("documents/?state=failed")


def test_what_a_member_does_not_see_they_do_not_act_on(
    client_editor: Client, address: Address, failed: list[Document], workspace_a: Any
) -> None:
    with workspace(workspace_a):
        failed[0].collection.restricted = True
        failed[0].collection.save(update_fields=["restricted"])
    for which in ({"which": "all"}, {"which": "chosen", "document": [str(document.id) for document in failed]}):
        client_editor.post(address("documents/act/"), {"do": "trash", **which})
    with workspace(workspace_a):
        assert not Document.objects.filter(trashed_at__isnull=False).exists()


# ---------------------------------------------------------------- the queue


def test_places_in_the_queue(client_viewer: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        collection, now = CollectionFactory(), timezone.now()
        for n in range(3):
            DocumentFactory(collection=collection, title=f"{n}", created_at=now + timedelta(seconds=n))
        DocumentFactory(collection=collection, title="later", retry_at=now + timedelta(minutes=10), retries=1)
    page = client_viewer.get(address("documents/"))
    assert {document.title: place for document, _, place in page.context["rows"]} == {"0": 1, "1": 2, "2": 3, "later": 0}
    assert "number 3 in the queue" in words(page)
    assert re.search(r"Tried again at .* \(try 2 of 3\)", words(page))


@pytest.mark.usefixtures("in_workspace_a")
def test_a_batch_is_what_came_since_the_queue_was_empty() -> None:
    everything = Document.objects.all()
    now = timezone.now()
    DocumentFactory(state=State.READY, created_at=now - timedelta(hours=2), finished_at=now - timedelta(hours=2))
    first, *others = [DocumentFactory(created_at=now - timedelta(seconds=30 - n)) for n in range(8)]
    for document in (first, *others):
        queueing.began([document.id], document.created_at)
    assert (queueing.batch(everything).done, queueing.batch(everything).total) == (0, 8)
    assert queueing.batch(everything).in_words == "0 of 8 documents"
    for document in (first, *others[:3]):
        ledger.begin(document.id)
        ledger.fail(document.id, Reason.DAMAGED)
    batch = queueing.batch(everything)
    assert (batch.done, batch.failed, batch.unfinished, batch.ended_at) == (4, 4, 4, None)
    assert batch.per_minute is None, "too early to tell"
    Document.objects.filter(pk=first.pk).update(finished_at=now - timedelta(seconds=20))
    batch = queueing.batch(everything)
    assert batch.per_minute == pytest.approx(9, abs=3), "three more in twenty seconds"
    assert re.fullmatch(r"4 of 8 documents · \d+ a minute · (about 1 min|less than a minute)", batch.in_words)
    late = DocumentFactory()
    queueing.began([late.id], late.created_at)
    assert (queueing.batch(everything).done, queueing.batch(everything).total) == (4, 9), "it joins the batch"
    ledger.cancel_all([late.id, *(document.id for document in others)])
    batch = queueing.batch(everything)
    assert (batch.done, batch.total, batch.cancelled, batch.is_recent) == (9, 9, 5, True)
    ledger.retry_all([late.id])
    queueing.began([late.id], timezone.now())
    assert (queueing.batch(everything).done, queueing.batch(everything).total) == (0, 1), "the queue was empty: a new batch"


def test_pausing_and_going_on(client_editor: Client, client_viewer: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        DocumentFactory.create_batch(2)
    assert "Pause" in words(client_editor.get(address("documents/")))
    assert "Pause" not in words(client_viewer.get(address("documents/")))
    assert "Paused" in words(client_editor.post(address("documents/pause/"), follow=True))
    assert "Paused" in words(client_viewer.get(address("documents/")))
    assert "Paused" not in words(client_editor.post(address("documents/resume/"), follow=True))
    with workspace(workspace_a):
        events = list(Entry.objects.order_by("number").values_list("event", flat=True))
    assert [event for event in events if event.startswith("queue.")] == ["queue.paused", "queue.resumed"]


def test_a_disk_that_is_nearly_full_is_said(client_editor: Client, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nearly full" not in words(client_editor.get(address("documents/")))
    monkeypatch.setattr(storage, "left", lambda: 123_000_000)
    assert "nearly full: 123.0" in words(client_editor.get(address("documents/")))
