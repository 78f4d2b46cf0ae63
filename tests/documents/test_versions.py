"""Versions: the newest that is ready is found, the others stay, and nothing that did not change is embedded again."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZipFile

import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from django.test import Client

from documents import describing, erasing, exporting, figures, ingestion, jobs, ledger, series, storage, trash, versions
from documents.fields import add_field
from documents.importing import Import, import_folder
from documents.models import Collection, Document, Page
from documents.reasons import Reason
from documents.receiving import collection_named, receive
from documents.sidecar import describe_by_csv
from search import embeddings, indexing, querying
from search.indexes import live
from search.models import Chunk, IndexEntry, Protection, Terms
from search.querying import Mode
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
    with transaction.atomic():  # back to before its end
        indexing.withdraw([first.pk])
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


def test_one_that_is_read_again_is_found_until_its_new_text_is_there(collection: Collection) -> None:
    first, second = ready(add(collection, SHIPS)), ready(add(collection, APPLES))
    versions.restore(first.pk)
    both = [first.pk, second.pk]
    Document.objects.filter(pk__in=both).update(pages_unread=1)
    assert ledger.read_again(both) == [first.pk], "another one would come into use by it"
    assert found("ships") == [first.pk]
    third = add(collection, TRAINS)
    assert not third.is_current
    ledger.cancel_all([*both, third.pk])
    states = dict(Document.objects.values_list("version", "state"))
    assert states == {1: "ready", 2: "ready", 3: "cancelled"}
    assert found("ships") == [first.pk]
    ledger.read_again([first.pk])
    ledger.begin(first.pk)
    ledger.fail(first.pk, Reason.TOO_LARGE)
    first.refresh_from_db()
    assert (first.state, first.reason, found("ships")) == ("ready", "", [first.pk])
    assert first.stages.last().reason == Reason.TOO_LARGE
    assert first.can_be_read_again
    ledger.read_again([first.pk])
    assert ready(first).pages_unread == 0
    assert found("ships") == [first.pk], "though a later one is ready"
    assert Chunk.objects.filter(document_id=first.pk).count() == first.chunks_total == first.chunks_done


def test_what_is_read_again_meets_the_version_that_takes_its_place(collection: Collection) -> None:
    first, second = ready(add(collection, SHIPS)), ready(add(collection, APPLES))
    Document.objects.filter(pk=second.pk).update(pages_unread=1)
    ledger.read_again([second.pk])
    with pytest.raises(Refused, match="being read again"):
        versions.restore(first.pk)
    ledger.begin(second.pk)
    third = ready(add(collection, TRAINS))
    second.refresh_from_db()
    assert (found("night"), second.state) == ([third.pk], "ready"), "as it was, and not in use any more"
    assert set(second.stages.values_list("outcome", flat=True)) == {"done", "cancelled"}
    ledger.fail(second.pk, Reason.TOO_LARGE)
    second.refresh_from_db()
    assert second.state == "ready"
    assert versions.restore(second.pk)
    assert found("apples") == [second.pk]


def test_one_that_failed_does_not_displace_a_newer_one_when_it_is_retried(collection: Collection) -> None:
    first, second = ready(add(collection, SHIPS)), add(collection, APPLES)
    ledger.cancel_all([second.pk])
    third = ready(add(collection, TRAINS))
    ledger.retry_all([second.pk])
    ready(second)
    assert found("night") == [third.pk]
    versions.restore(first.pk)
    assert found("night") == [first.pk]


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


@pytest.mark.parametrize("level", Protection.values)
def test_at_every_level_the_new_version_is_found_and_the_old_one_is_not(
    collection: Collection, level: str, settings: LazySettings
) -> None:
    settings.DEFAULT_PROTECTION = level
    parts = [b"# Part\n\n" + b" ".join([sentence] * 15) for sentence in (SHIPS, APPLES, TRAINS)]
    first = ready(add(collection, b"\n\n".join(parts[:2]), "report.md"))
    assert live().protection == level
    second = ready(add(collection, b"\n\n".join([parts[0], parts[2]]), "report.md"))
    old, new = ({chunk.text for chunk in Chunk.objects.filter(document_id=each.pk)} for each in (first, second))
    assert old & new, "some did not change"
    for question in ("ships in the harbour", "the night train leaves", "apples and pears"):
        for mode in (Mode.HYBRID, Mode.MEANING):
            hits = querying.search(question, collections=sources().everything(), mode=mode).hits
            assert {hit.document_id for hit in hits} == {second.pk}, (question, mode)
    versions.restore(first.pk)
    assert set(found("apples and pears")) == {first.pk}


def test_what_is_exported_is_imported_again_without_a_double(collection: Collection, tmp_path: Path) -> None:
    first, second = ready(add(collection, SHIPS)), ready(add(collection, APPLES))
    add(collection, TRAINS, "trains.txt", reference="railway/trains.txt")

    def again() -> Import:
        with ZipFile(BytesIO(b"".join(exporting.archive()))) as archive:
            archive.extractall(tmp_path)
        return import_folder(tmp_path / "files" / "Reports", "Reports")

    done = again()
    assert (done.documents, done.already) == ([], 2)
    older = tmp_path / "older" / "Reports" / "report (version 1).txt"
    assert older.read_bytes() == SHIPS, "and nothing is lost"
    versions.restore(first.pk)
    done = again()
    assert (done.documents, done.already) == ([], 2), "what is in use is here, though it is not the newest"
    (tmp_path / "files" / "Reports" / "report.txt").write_bytes(APPLES)
    assert import_folder(tmp_path / "files" / "Reports", "Reports").documents == [], "the newest is here too"
    versions.restore(second.pk)
    (tmp_path / "files" / "Reports" / "report.txt").write_bytes(SHIPS)
    (third,) = import_folder(tmp_path / "files" / "Reports", "Reports").documents
    assert Document.objects.get(pk=third).version == 3, "what went out of use comes anew"


def test_judgments_mean_the_version_in_use_by_every_name(collection: Collection) -> None:
    first = ready(add(collection, SHIPS))
    second, other = ready(add(collection, APPLES)), ready(add(collection, TRAINS, "other.txt"))
    third = ready(add(collection, APPLES + TRAINS))
    for current in (third, first, second):
        if not Document.objects.get(pk=current.pk).is_current:
            versions.restore(current.pk)
        named = sources().references(sources().everything())
        assert {named[name] for name in ("report.txt", "report", *map(str, (first.pk, second.pk, third.pk)))} == {current.pk}
        assert named[str(other.pk)] == other.pk


def test_screens_say_which_version_is_meant_and_that_all_go(
    workspace_a: Any, client_editor: Client, client_owner: Client, address: Callable[[str], str], model_dir: Any
) -> None:
    with workspace(workspace_a):
        collection = collection_named("Reports")
        first = ready(add(collection, SHIPS))
    shared = client_editor.post(address("s/"), {"q": "what is in the harbour", "collection": ""})["Location"]
    assert str(first.pk) in client_owner.get(shared).content.decode()
    with workspace(workspace_a):
        second = ready(add(collection, APPLES))
    answer = client_owner.get(shared).content.decode()
    assert str(second.pk) in answer
    assert str(first.pk) not in answer
    page = client_owner.get(address(f"documents/{first.pk}/")).content.decode()
    assert "Version 1 of 2, not in use" in page
    assert address(f"documents/{second.pk}/") in page

    def act(do: str) -> str:
        asked = {"document": [str(first.pk)], "do": do}
        return client_editor.post(address("documents/act/"), asked, follow=True).content.decode()

    assert "Nothing changed. None of these failed" in act("retry")
    assert "Of none of these pages are missing" in act("read-again")
    assert "None of these is in progress" in act("cancel")
    with workspace(workspace_a):
        assert found("apples") == [second.pk]
    client_editor.post(address(f"documents/{first.pk}/delete/"))
    undo = client_editor.get(address("documents/")).content.decode()
    assert "“report” is in the trash, with all 2 versions." in undo
    assert "Trash (1)" in undo
    erase = client_editor.get(address(f"documents/{second.pk}/erase/")).content.decode()
    assert "all 2 versions: their files (116 bytes)" in erase
    emptied = client_editor.get(address("documents/trash/empty/")).content.decode()
    assert "Erase 1 document" in emptied
    assert "with every version: 2 files" in emptied
    client_editor.post(address(f"documents/{first.pk}/restore/"))
    assert "is back, as it was, with all 2 versions" in client_editor.get(address("documents/")).content.decode()
    assert "1 document moved to the trash." in act("trash")


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
    assert compared.lines[0] == versions.Line("gap", "From line 1")
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
