"""Versions: the newest that is ready is found, the others stay, and nothing that did not change is embedded again."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction

from documents import describing, erasing, figures, ingestion, jobs, ledger, series, storage, trash, versions
from documents.fields import add_field
from documents.models import Collection, Document, Page
from documents.receiving import collection_named, receive
from documents.sidecar import describe_by_csv
from search import embeddings, querying
from search.models import Chunk, IndexEntry, Terms
from search.sources import sources
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.errors import Refused

pytestmark = pytest.mark.django_db(transaction=True)

SHIPS = b"Ships tie up in the harbour at night and leave with the tide."
APPLES = b"Apples and pears ripen in the orchard behind the house."
TRAINS = b"The night train leaves the station at ten past eleven."


@pytest.fixture
def collection(in_workspace_a: Any, model_dir: Any) -> Collection:
    return collection_named("Reports")


def add(collection: Collection, content: bytes, name: str = "report.txt", **more: Any) -> Document:
    return receive(storage.store(uuid4(), [content]), name, collection, **more)


def ready(document: Document) -> Document:
    ingestion.ingest(document.pk)
    document.refresh_from_db()
    assert document.state == Document.State.READY
    return document


def found(question: str) -> list[UUID]:
    return [hit.document_id for hit in querying.search(question, collections=sources().everything()).hits]


def test_a_new_version_takes_over_once_it_is_ready_and_an_earlier_one_comes_back(collection: Collection) -> None:
    first = ready(add(collection, SHIPS))
    second = add(collection, APPLES)
    assert (second.version, second.series, second.is_current) == (2, first.pk, False)
    assert found("ships in the harbour") == [first.pk], "the one in use stays until the next is ready"
    assert list(series.listed(Document.objects.all())) == [second, first]
    ready(second)
    assert found("ships in the harbour") == [second.pk]
    assert list(series.listed(Document.objects.all())) == [second]
    assert figures._documents()["ready"] == 1
    chunks = list(Chunk.objects.order_by("id").values_list("id", "embedding"))
    versions.restore(first.pk)
    assert found("apples") == [first.pk]
    assert list(Chunk.objects.order_by("id").values_list("id", "embedding")) == chunks, "nothing was embedded anew"
    assert Entry.objects.filter(event=Event.VERSION_RESTORED).count() == 1
    with pytest.raises(Refused, match="in use already"):
        versions.restore(first.pk)
    assert ready(add(collection, TRAINS)).version == 3
    assert found("apples") == [series.history(first, Document.objects.all())[0].pk]


def test_the_highest_version_that_is_ready_wins_in_whichever_order_they_end(collection: Collection) -> None:
    first, second, third = add(collection, SHIPS), add(collection, APPLES), add(collection, TRAINS)
    assert list(series.listed(Document.objects.all())) == [third], "one row while none is ready"
    ready(second)
    assert found("night") == [second.pk]
    ready(first)
    assert found("night") == [second.pk]
    ledger.cancel_all([third.pk])
    assert found("night") == [second.pk], "what was cancelled leaves the one in use"
    ledger.retry_all([third.pk])
    ready(third)
    assert found("night") == [third.pk]
    assert Terms.objects.count() == 1
    assert Document.objects.filter(is_current=True).count() == 1


def test_one_that_ends_while_the_next_arrives_knows_of_it(collection: Collection, workspace_a: Any) -> None:
    first = ready(add(collection, SHIPS))
    Document.objects.filter(pk=first.pk).update(state=Document.State.EMBEDDING)

    def finish() -> None:
        with workspace(workspace_a):
            ledger.finish(first.pk)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            second = add(collection, APPLES)
            ending = pool.submit(finish)
            waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            while not ending.done() and connection.cursor().execute(waits).fetchone() == (False,):
                time.sleep(0.01)
        ending.result()
    assert second.is_current, "none was ready when it came"
    assert list(Document.objects.filter(is_current=True)) == [first]
    assert found("ships in the harbour") == [first.pk]
    trash.trash([first.pk], 1)
    assert add(collection, TRAINS).version == 1


def test_only_the_version_in_use_is_in_the_index(collection: Collection) -> None:
    """Others would be among the nearest in its place; and unchanged passages would lie there twice, under other noise."""

    def entered() -> set[UUID]:
        return set(IndexEntry.objects.values_list("document_id", flat=True))

    first, second = add(collection, SHIPS), add(collection, APPLES)
    ready(second)
    ready(first)
    assert entered() == {second.pk}
    before = list(IndexEntry.objects.values_list("chunk_id", "vector"))
    versions.restore(first.pk)
    assert entered() == {first.pk}
    versions.restore(second.pk)
    assert list(IndexEntry.objects.values_list("chunk_id", "vector")) == before, "in the same disguise"


def test_one_in_use_that_is_read_again_is_found_again_though_a_later_one_is_ready(collection: Collection) -> None:
    first, second = ready(add(collection, SHIPS)), ready(add(collection, APPLES))
    versions.restore(first.pk)
    Document.objects.update(pages_unread=1)
    assert ledger.read_again([first.pk, second.pk]) == [first.pk], "another one would come into use by it"
    assert found("ships") == []
    ready(first)
    assert found("ships") == [first.pk]


def test_unchanged_passages_are_not_embedded_again(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(6)  # the same words every time
    words = ["harbour", "orchard", "railway", "mountain", "ledger", "copper", "window", "garden", "winter", "letter"]
    pages = ["# Part\n\n" + " ".join(rng.choices(words, k=150)) + f" {number}." for number in range(12)]
    first = ready(add(collection, "\n\n".join(pages).encode(), "report.md"))
    given: list[str] = []
    model = type(embeddings.embedder())
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda self, texts: (given.extend(texts), embed(self, texts))[1])
    pages[5] = pages[5].replace(" 5.", " changed.")
    second = ready(add(collection, "\n\n".join(pages).encode(), "report.md"))
    assert len(given) == 1, "one part changed"
    assert second.chunks_done == second.chunks_total == first.chunks_total
    for part in (0, first.chunks_total - 1):
        reused = Chunk.objects.filter(document_id__in=[first.pk, second.pk], sequence=part)
        old, new = (reused.get(document_id=pk) for pk in (first.pk, second.pk))
        assert bytes(old.embedding) == bytes(new.embedding)


@pytest.mark.parametrize("damaged", ["text", "embedding"])
def test_a_damaged_version_does_not_keep_the_next_from_being_read(collection: Collection, damaged: str) -> None:
    first = ready(add(collection, SHIPS))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE search_chunk SET {damaged} = set_byte({damaged}, 30, get_byte({damaged}, 30) # 1) WHERE document_id = %s",
            [first.pk],
        )
    second = ready(add(collection, SHIPS + b"\n"))
    assert found("ships in the harbour") == [second.pk]


def test_trash_undo_and_erasure_take_every_version(collection: Collection) -> None:
    first, second = ready(add(collection, SHIPS)), ready(add(collection, APPLES))
    other = ready(add(collection, TRAINS, "other.txt"))
    assert trash.trash([second.pk], 1) == 1
    assert not Document.objects.filter(pk__in=[first.pk, second.pk], trashed_at=None).exists()
    again = add(collection, SHIPS)
    assert (again.version, again.series) == (1, None), "what is in the trash has no next version"
    trash.restore([second.pk])
    assert found("apples")[0] == second.pk
    assert first.pk not in found("ships")
    trash.trash([first.pk], 1)
    assert erasing.erase([second.pk], trashed_at__isnull=False).documents == 1
    assert set(Document.objects.values_list("pk", flat=True)) == {other.pk, again.pk}


def test_the_names_of_rows_that_have_no_digest_are_known(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "FILLED_AT_ONCE", 1)
    first, _ = add(collection, SHIPS), add(collection_named("Other"), APPLES)
    digests = dict(Document.objects.values_list("pk", "name_digest"))
    Document.objects.update(name_digest=None)
    jobs.sweep()
    assert dict(Document.objects.values_list("pk", "name_digest")) == digests
    Document.objects.update(name_digest=None)
    assert add(collection, APPLES).series == first.pk, "also before a sweep"


def test_more_documents_go_than_a_statement_takes_parameters(collection: Collection) -> None:
    """PostgreSQL takes 65,535, and the versions come on top of what is named."""
    first, second = add(collection, SHIPS), add(collection, APPLES)
    assert set(series.with_all([second.pk, *(uuid4() for _ in range(70_000))])) >= {first.pk, second.pk}
    assert trash.trash([second.pk, *(uuid4() for _ in range(33_000))], 1) == 1
    assert Document.objects.filter(trashed_at=None).count() == 0


def test_a_csv_file_describes_the_version_in_use(collection: Collection) -> None:
    add_field(collection, "State", "keyword")
    ready(add(collection, SHIPS))
    second = ready(add(collection, APPLES))
    add(collection, TRAINS)
    assert describe_by_csv(collection, b"file,State\nreport.txt,signed\n") == 1
    assert [each.value for each in describing.described(second)] == ["signed"]


def test_what_is_said_of_a_document_meanwhile_stays_said(collection: Collection) -> None:
    field, other = add_field(collection, "State", "keyword", filterable=True), add_field(collection, "Partner", "text")
    first = ready(add(collection, SHIPS, values={field.pk: "draft"}))
    second = add(collection, APPLES, values={other.pk: "Ada"})
    describing.describe(first, {"State": "signed", "Partner": ""})
    ready(second)
    values = {each.field.name: each.value for each in describing.described(second)}
    assert values == {"State": "signed", "Partner": "Ada"}, "what did not change is as the upload had it"
    assert describing.searchable([second.pk]) == {second.pk: {field.pk: "signed"}}
    with pytest.raises(Refused, match="another version of it is in use"):
        describing.describe(first, {"State": "old"})
    versions.restore(first.pk)
    describing.describe(first, {"State": "old"})
    assert describing.described(add(collection, TRAINS))[0].value == "old", "as the one in use, not as the newest"


def test_what_differs_is_shown(collection: Collection) -> None:
    first = ready(add(collection, b"One line.\nA second line.\nThe last line."))
    second = ready(add(collection, b"One line.\nA <changed> line.\nThe last line."))
    compared = versions.compare(first, second)
    assert [(line.kind, line.text) for line in compared.lines if line.kind in ("added", "removed")] == [
        ("removed", "A second line."),
        ("added", "A <changed> line."),
    ]
    assert (compared.added, compared.removed, compared.why_not) == (1, 1, "")
    assert "too large" in versions.compare(first, second, most=10).why_not


def test_versions_never_lose_text(collection: Collection) -> None:
    """Whatever is uploaded, restored, cancelled or finished in whichever order: the text of every ready version is whole,
    exactly one is found where any is ready, and its passages are those of its text.
    """
    rng = random.Random(20261127)  # the same steps every time
    texts: dict[UUID, str] = {}
    for step in range(40):
        rows = list(Document.objects.order_by("version"))
        unfinished = [row for row in rows if row.is_unfinished]
        done = [row for row in rows if row.state == Document.State.READY]
        match rng.choice(["upload", "finish", "finish", "restore", "cancel"]):
            case "upload":
                text = " ".join(f"word{rng.randrange(60)}" for _ in range(rng.randrange(3, 30))) + f" step{step}."
                texts[add(collection, text.encode()).pk] = text
            case "finish" if unfinished:
                ready(rng.choice(unfinished))
            case "restore" if any(not row.is_current for row in done):
                versions.restore(rng.choice([row for row in done if not row.is_current]).pk)
            case "cancel" if unfinished:
                ledger.cancel_all([rng.choice(unfinished).pk])
        done = list(Document.objects.filter(state=Document.State.READY))
        assert Document.objects.filter(is_current=True).count() == bool(texts)
        assert set(Terms.objects.values_list("document_id", flat=True)) == {row.pk for row in done if row.is_current}
        assert Terms.objects.count() == bool(done)
        for document in done:
            assert "".join(page.text for page in Page.objects.filter(document=document)).strip() == texts[document.pk]
            assert " ".join(chunk.text for chunk in Chunk.objects.filter(document_id=document.pk)) == texts[document.pk]
    assert len(texts) > 3
