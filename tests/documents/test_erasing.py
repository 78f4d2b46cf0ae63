"""Erasing documents: nothing is left, it is written down outside the database, and, interrupted, it is finished once."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from documents import describing, dispatch, erasing, fields, ingestion, storage, trash
from documents.models import Document, Page, Stage, Usage, Value
from search import indexes
from search.models import Chunk, Facts, IndexEntry, Terms
from tenants import erasures, lifecycle, proofs, provisioning, receipts, sweeping, witness
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.models import Receipt, Tenant
from tests.factories import CollectionFactory, DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True)

Address = Callable[[str], str]
STEPS = ["storage.remove", "jobs.forget", "receipts.issue", "erasures.followed"]


@pytest.fixture
def both(workspace_a: Any, model_dir: Path) -> tuple[Document, Document]:
    """One that goes, and one that stays."""
    with workspace(workspace_a):
        made = DocumentFactory(title="Going"), DocumentFactory(title="Staying")
        for document in made:
            fields.add_field(document.collection, "State", "keyword", filterable=True)
            describing.describe(document, {"State": "open"})
            ingestion.ingest(document.id)
        return made


def newest() -> Receipt:
    with public_context():
        return Receipt.objects.latest("issued_at")


def traces(document: Document) -> list[str]:
    """What there still is of it. In its workspace."""
    found = [
        model.__name__
        for model in (Page, Chunk, IndexEntry, Terms, Value, Facts, Stage)
        if model.objects.filter(document_id=document.id).exists()
    ]
    found += ["Document"] if Document.objects.filter(pk=document.id).exists() else []
    found += ["file"] if storage.is_there(document.stored_name) else []
    found += ["job"] if any(str(document.id).encode() in key for key in redis_keys()) else []
    return found


def redis_keys() -> list[bytes]:
    return list(django_rq.get_queue("default").connection.scan_iter())


def test_nothing_is_left_and_a_receipt_says_so(both: tuple[Document, Document], in_workspace_a: Any) -> None:
    going, staying = both
    dispatch.enqueue_ingest(going.id)
    assert traces(going) == ["Page", "Chunk", "IndexEntry", "Terms", "Value", "Facts", "Stage", "Document", "file", "job"]
    before = indexes.live().generation
    erased = erasing.erase([going.id])
    assert traces(going) == []
    assert traces(staying) == ["Page", "Chunk", "IndexEntry", "Terms", "Value", "Facts", "Stage", "Document", "file"]
    assert indexes.live().generation == before + 1
    body = proofs.check_receipt(newest().document, receipts.signing_key()["public_key"])
    assert (body["receipt"], body["what"]) == (str(erased.receipt), [str(going.id)])
    assert body["counts"] == {
        "documents": 1, "bytes": going.size, "files": 1, "pages": 1, "metadata values": 1, "stages of work": 2,
        "passages": 1, "vectors": 1, "term entries": 1, "filter entries": 1, "jobs": 1,
    }  # fmt: skip
    assert set(body["verified"].values()) == {0}
    assert [len(key["fingerprint"]) for key in body["keys"]] == [16]
    assert "Going" not in json.dumps(newest().document)
    (entry,) = Entry.objects.filter(event=Event.ERASED)
    assert entry.details["about"] == {"document": str(going.id), "documents": 1, "receipt": str(erased.receipt)}


def test_the_list_outside_the_database_is_written_before_the_commit(
    both: tuple[Document, Document], in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    write = witness.append

    def look(name: str, line: dict[str, Any]) -> int:
        end = write(name, line)
        with ThreadPoolExecutor(1) as other:
            seen.append(other.submit(is_there, in_workspace_a, both[0]).result())
        return end

    monkeypatch.setattr(witness, "append", look)
    erasing.erase([both[0].id])
    assert seen == [True]
    assert Tenant.objects.get().erasures_seen == witness.size(erasures.list_of(in_workspace_a.pk)) > 0


def is_there(tenant: Any, document: Document) -> bool:
    try:
        with workspace(tenant):
            return Document.objects.filter(pk=document.id).exists()
    finally:
        connection.close()


class Killed(BaseException):
    pass


def cut(*_: object, **__: object) -> None:
    raise Killed


def old(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if minutes had passed: nobody waits for an erasure that is under way."""
    monkeypatch.setattr(erasures, "FRESH_SECONDS", -1.0)


@pytest.mark.parametrize("step", ["the commit", *STEPS])
def test_interrupted_anywhere_it_is_finished_with_one_receipt(
    both: tuple[Document, Document],
    workspace_a: Any,
    client_editor: Client,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    going, staying = both
    with monkeypatch.context() as patched:
        if step == "the commit":
            write = witness.append
            patched.setattr(witness, "append", lambda name, line: (write(name, line), cut()))
        else:
            patched.setattr(f"documents.erasing.{step}", cut)
        with workspace(workspace_a), pytest.raises(Killed):
            erasing.erase([going.id])
    old(workspace_a, monkeypatch)
    answer = client_editor.get(address("documents/"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert "is being brought up to date" in answer.content.decode()
    assert client_editor.get(address(f"documents/{going.id}/download/")).status_code == 503
    sweeping.sweep(everything=True)
    assert client_editor.get(address("documents/")).status_code == 200
    with workspace(workspace_a):
        assert traces(going) == []
        assert "Document" in traces(staying)
        assert Usage.objects.get().documents >= 0
    assert Receipt.objects.count() == len(witness.names("receipts")) == 1
    assert Receipt.objects.get().document["body"]["counts"]["passages"] == 1
    sweeping.sweep(everything=True)
    assert Receipt.objects.count() == 1


def test_an_interrupted_one_is_followed_by_the_next(
    both: tuple[Document, Document], workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the list would count as followed to its end, and what was interrupted would stay."""
    write = witness.append
    with workspace(workspace_a):
        with monkeypatch.context() as patched:
            patched.setattr(witness, "append", lambda name, line: (write(name, line), cut()))
            with pytest.raises(Killed):
                erasing.erase([both[0].id])
        assert "Document" in traces(both[0])
        erasing.erase([both[1].id])
        assert traces(both[0]) == traces(both[1]) == []
    assert Receipt.objects.count() == 2
    assert not erasures.is_behind(Tenant.objects.get(pk=workspace_a.pk))


def test_where_something_is_left_there_is_no_receipt(
    both: tuple[Document, Document], in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(storage, "remove", lambda names: list(names))
        with pytest.raises(erasing.NotErased, match='"files": 1'):
            erasing.erase([both[0].id])
    with public_context():
        assert not Receipt.objects.exists()
    assert erasing.catch_up() == 0
    assert newest().document["body"]["verified"]["files"] == 0


def test_while_it_is_committed_others_wait_and_are_let_in(
    both: tuple[Document, Document], workspace_a: Any, client_editor: Client, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the line and its being followed lie milliseconds, in which nobody is told that the workspace is shut."""
    answers: list[int] = []
    issue = receipts.issue

    def while_issuing(*args: Any, **more: Any) -> Receipt:
        asking = pool.submit(lambda: (client_editor.get(address("documents/")).status_code, connection.close())[0])
        threads.append(asking)
        return issue(*args, **more)

    threads: list[Any] = []
    monkeypatch.setattr(receipts, "issue", while_issuing)
    with ThreadPoolExecutor(1) as pool:
        with workspace(workspace_a):
            erasing.erase([both[0].id])
        answers = [asking.result() for asking in threads]
    assert answers == [200]


def test_a_job_in_a_workspace_that_is_behind_does_nothing(
    both: tuple[Document, Document], workspace_a: Any, run_jobs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with workspace(workspace_a):
        waiting = DocumentFactory()
        dispatch.enqueue_ingest(waiting.id)
    witness.append(erasures.list_of(workspace_a.pk), {"documents": [str(waiting.id)]})
    old(workspace_a, monkeypatch)
    monkeypatch.setattr("tenants.sweeping._public_sweepers", [])
    assert run_jobs() == 1
    with workspace(workspace_a):
        assert Document.objects.get(pk=waiting.id).state == Document.State.QUEUED


def test_a_list_that_was_lost_begins_anew(both: tuple[Document, Document], workspace_a: Any) -> None:
    Tenant.objects.filter(pk=workspace_a.pk).update(erasures_seen=10_000)
    with workspace(Tenant.objects.get(pk=workspace_a.pk)):
        erasing.erase([both[0].id])
    size = witness.size(erasures.list_of(workspace_a.pk))
    assert 0 < size == Tenant.objects.get(pk=workspace_a.pk).erasures_seen


def test_single_rows_put_back_are_noticed_by_the_sweep(
    both: tuple[Document, Document], workspace_a: Any, client_editor: Client, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database says it has followed its list; rows of a restored schema say otherwise."""
    going, _ = both
    with workspace(workspace_a):
        erasing.erase([going.id])
        assert erasing.look_for_returned() == 0
        going.save(force_insert=True)
        assert erasing.look_for_returned() == 1
    old(workspace_a, monkeypatch)
    assert client_editor.get(address(f"documents/{going.id}/")).status_code == 503
    sweeping.sweep(everything=True)
    assert client_editor.get(address(f"documents/{going.id}/")).status_code == 404
    assert Receipt.objects.count() == 1


def test_a_legal_hold_forbids_it(both: tuple[Document, Document], workspace_a: Any) -> None:
    lifecycle.hold(workspace_a, "Court order 12")
    with workspace(workspace_a):
        trash.trash([both[0].id], None)
        with pytest.raises(Refused, match="Court order 12"):
            erasing.erase([both[0].id])
        with pytest.raises(Refused, match="Court order 12"):
            erasing.erase_collection(both[0].collection)
        assert "Document" in traces(both[0])


@pytest.mark.usefixtures("in_workspace_a")
def test_not_within_somebody_else_s_transaction() -> None:
    document = DocumentFactory()
    with pytest.raises(RuntimeError), transaction.atomic():
        erasing.erase([document.id])
    assert Document.objects.exists()


@pytest.mark.usefixtures("in_workspace_a")
def test_what_is_not_there_needs_no_receipt() -> None:
    going = CollectionFactory()
    assert erasing.erase([]) == erasing.erase_collection(going) == erasing.Erased(0, None)


@pytest.mark.usefixtures("in_workspace_a")
def test_documents_of_people_are_not_discarded() -> None:
    with pytest.raises(ValueError, match="erased"):
        erasing.discard(CollectionFactory())


@pytest.mark.usefixtures("in_workspace_a")
def test_many_take_as_many_queries_as_few() -> None:
    collection = CollectionFactory()
    few = [each.id for each in DocumentFactory.create_batch(2, collection=collection)]
    many = [each.id for each in DocumentFactory.create_batch(150, collection=collection)]
    counted = []
    for ids in (few, many):
        with CaptureQueriesContext(connection) as queries:
            assert erasing.erase(ids).documents == len(ids)
        counted.append(len(queries))
    assert counted[1] <= counted[0]


# ---------------------------------------------------------------- from the screen


def test_erase_now(both: tuple[Document, Document], client_owner: Client, address: Address, workspace_a: Any) -> None:
    going, _ = both
    assert client_owner.get(address(f"documents/{going.id}/erase/")).status_code == 404, "from the trash alone"
    client_owner.post(address(f"documents/{going.id}/delete/"))
    page = client_owner.get(address(f"documents/{going.id}/erase/")).content.decode()
    for words in ("It cannot be undone.", "1 passage with", "Backups of the database", "signed receipt"):
        assert words in page
    answer = client_owner.post(address(f"documents/{going.id}/erase/"), follow=True)
    text = answer.content.decode()
    receipt = newest()
    assert answer.redirect_chain[-1][0] == address(f"receipts/{receipt.pk}/")
    for words in ("“Going” is erased.", str(receipt.pk), "What it does not reach", receipts.signing_key()["fingerprint"]):
        assert words in text
    with workspace(workspace_a):
        assert traces(going) == []


def test_an_editor_erases_and_is_told_who_sees_the_receipt(
    both: tuple[Document, Document], client_editor: Client, address: Address, workspace_a: Any
) -> None:
    for document in both:
        client_editor.post(address(f"documents/{document.id}/delete/"))
    page = client_editor.get(address("documents/trash/empty/")).content.decode()
    assert "2 files" in page
    page = client_editor.post(address("documents/trash/empty/"), follow=True).content.decode()
    assert f"Admins and owners see its receipt, {newest().pk}." in page
    assert client_editor.get(address(f"receipts/{newest().pk}/")).status_code == 403
    with workspace(workspace_a):
        assert not Document.objects.exists()
    assert client_editor.get(address("documents/trash/empty/")).url == address("documents/trash/")


def test_under_a_hold_the_page_says_why(
    both: tuple[Document, Document], client_editor: Client, address: Address, workspace_a: Any
):
    client_editor.post(address(f"documents/{both[0].id}/delete/"))
    lifecycle.hold(workspace_a, "Court order 12")
    page = client_editor.post(address(f"documents/{both[0].id}/erase/"), follow=True).content.decode()
    assert "must be kept (Court order 12)" in page
    with workspace(workspace_a):
        assert "Document" in traces(both[0])


def test_receipts_are_listed_downloaded_and_checked_without_cloister(
    both: tuple[Document, Document],
    client_owner: Client,
    client_viewer: Client,
    address: Address,
    workspace_a: Any,
    person: Callable[..., Any],
    sign_in: Callable[..., Client],
    tmp_path: Path,
) -> None:
    assert "Nothing has been erased" in client_owner.get(address("receipts/")).content.decode()
    with workspace(workspace_a):
        erased = erasing.erase([both[0].id])
    assert str(erased.receipt) in client_owner.get(address("receipts/")).content.decode()
    answer = client_owner.get(address(f"receipts/{erased.receipt}/download/"))
    assert answer.headers["Content-Disposition"] == f'attachment; filename="receipt-{erased.receipt}.json"'
    file = tmp_path / "receipt.json"
    file.write_bytes(answer.content)
    alone = [sys.executable, "-I", Path(proofs.__file__), file, "--key", receipts.signing_key()["public_key"]]
    done = subprocess.run(alone, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Genuine: receipt {erased.receipt}" in done.stdout
    file.write_bytes(answer.content.replace(b'"documents": 1', b'"documents": 2'))
    forged = subprocess.run(alone, capture_output=True, text=True, cwd=tmp_path)
    assert forged.returncode == 1
    assert "FORGED" in forged.stderr
    assert client_viewer.get(address("receipts/")).status_code == 403
    stranger = sign_in(person("owner", provisioning.Tenant.objects.get(slug="beta"), "beta@example.org"))
    assert stranger.get(f"/w/beta/receipts/{erased.receipt}/").status_code == 404


def test_staff_read_receipts_and_change_none(
    both: tuple[Document, Document], workspace_a: Any, person: Callable[..., Any], sign_in: Callable[..., Client]
) -> None:
    with workspace(workspace_a):
        erased = erasing.erase([both[0].id])
    staff = sign_in(person(None, email="staff@example.org", staff=True))
    listed = staff.get("/admin/tenants/receipt/").content.decode()
    assert "Alpha" in listed
    page = staff.get(f"/admin/tenants/receipt/{erased.receipt}/change/").content.decode()
    assert "cloister-receipt/1" in page
    assert staff.post(f"/admin/tenants/receipt/{erased.receipt}/delete/", {"post": "yes"}).status_code == 403


def test_a_receipt_that_somebody_planted_is_none(
    workspace_a: Any, person: Callable[..., Any], sign_in: Callable[..., Client], client_owner: Client, address: Address
) -> None:
    body = {"workspace": {"name": "Alpha"}, "counts": {"documents": 7}, "verified": {}, "kind": "document"}
    with public_context():
        for document in ({"body": body, "public_key": receipts.signing_key()["public_key"], "signature": "AAAA"}, {}):
            Receipt.objects.create(tenant_id=workspace_a.pk, kind="documents", document=document)
        planted = Receipt.objects.first()
    assert planted is not None
    assert str(planted.pk) not in client_owner.get(address("receipts/")).content.decode()
    staff = sign_in(person(None, email="staff@example.org", staff=True))
    for path in ("", f"{planted.pk}/change/"):
        page = staff.get(f"/admin/tenants/receipt/{path}")
        assert page.status_code == 200
        assert "Not signed by this installation" in page.content.decode()


def test_files_of_others_stay(both: tuple[Document, Document], workspace_a: Any) -> None:
    with workspace(workspace_a):
        erasing.erase([both[0].id])
        assert [path.name for path in Path(settings.FILES_DIR).rglob("*") if path.is_file()] == [both[1].stored_name]
