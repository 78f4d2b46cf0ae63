"""A workspace's key is changed: everything is under the new one afterwards, opens, and nothing was lost on the way."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.utils import timezone

from documents import rekeying, storage
from documents.models import Collection, Document, Page
from search import building, candidates, indexes
from search.models import Chunk, SharedSearch
from search.pool import pool
from tenants.ciphers import digest, seed, version_of
from tenants.context import workspace
from tenants.errors import Refused
from tenants.fields import EncryptedField
from tenants.keys import reencryption, rotation
from tenants.keys.keyring import keyring, provider
from tenants.keys.providers import KeyUnavailable
from tenants.models import KeyRotation, Tenant, TenantKey
from tenants.routing import is_tenant_app
from tests.factories import DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
RunJobs = Callable[[], int]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 0.0)


@pytest.fixture
def keystore_put_back(workspace_a: Any) -> Iterator[None]:
    """The database is put back after each test, and its wrapped keys want the wrapping key they had."""
    directory, name = Path(settings.KEYS_DIR), f"{workspace_a.id}*"
    before = {path: path.read_bytes() for path in directory.glob(name)}
    yield
    for path in directory.glob(name):
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
        path.chmod(0o600)


@pytest.fixture
def filled(workspace_a: Any, run_jobs: RunJobs, keystore_put_back: None) -> Any:
    """Documents of several pages and passages, a shared search, a collection with a name."""
    with workspace(workspace_a):
        for number in range(3):
            DocumentFactory(content=f"Minutes {number} of the harvest committee.\n\n".encode() * 200)
        from documents import dispatch

        dispatch.queue_unfinished()
        SharedSearch.objects.create(query={"q": "who was there"})
    run_jobs()
    return workspace_a


def versions(tenant: Tenant) -> set[int]:
    """Of every value and file of the workspace."""
    found = set()
    with workspace(tenant), connection.cursor() as cursor:
        for table in reencryption.tables():
            for field in table.fields:
                cursor.execute(f'SELECT "{field.column}" FROM "{table.name}" WHERE "{field.column}" IS NOT NULL')
                found |= {version_of(bytes(value)) for (value,) in cursor.fetchall()}
        found |= {storage.key_version(name) for name in Document.objects.values_list("stored_name", flat=True)}
    return found


def texts(tenant: Tenant) -> tuple[Any, ...]:
    with workspace(tenant):
        return (
            sorted((d.title, d.file_name, b"".join(storage.read(d.id, d.stored_name))) for d in Document.objects.all()),
            sorted(page.text for page in Page.objects.all()),
            sorted((chunk.text, chunk.embedding) for chunk in Chunk.objects.all()),
            [shared.query for shared in SharedSearch.objects.all()],
            [collection.name for collection in Collection.objects.all()],
        )


def test_everything_is_encrypted_anew_and_reads_the_same(filled: Any, run_jobs: RunJobs) -> None:
    before = texts(filled)
    assert versions(filled) == {1}
    with workspace(filled):
        name_digest = digest("dedupe", "collection:documents"), seed("cloak", "noise", "1")
    begun = rotation.begin(filled)
    run_jobs()
    begun.refresh_from_db()
    assert (begun.state, begun.done) == ("done", begun.total)
    assert begun.total > 10
    assert versions(filled) == {2}
    keyring.forget()
    assert texts(filled) == before
    with workspace(filled):
        assert (digest("dedupe", "collection:documents"), seed("cloak", "noise", "1")) == name_digest
    old = TenantKey.objects.get(tenant=filled, version=1)
    assert old.state == "retired"
    assert old.destroy_at - old.retired_at == timedelta(days=35)


def test_vectors_by_a_further_model_are_encrypted_anew(filled: Any, run_jobs: RunJobs, two_models: str) -> None:
    with workspace(filled):
        building.work(building.begin("sealed", model=two_models).id)
        building.remove_retired()
        found = candidates.recall(indexes.live())
        assert not Chunk.objects.filter(embedding__isnull=False).exists()
    rotation.begin(filled)
    run_jobs()
    assert versions(filled) == {2}
    keyring.forget()
    pool().clear()
    with workspace(filled):
        assert candidates.recall(indexes.live()) == found


def test_every_encrypted_column_of_every_table_is_known() -> None:
    expected = {
        (model._meta.db_table, field.column)
        for model in apps.get_models()
        if is_tenant_app(model._meta.app_label)
        for field in model._meta.fields
        if isinstance(field, EncryptedField)
    }
    known = {(table.name, field.column) for table in reencryption.tables() for field in table.fields}
    assert known == expected
    assert {"audit_entry", "search_cloak", "search_terms", "documents_page"} <= {table for table, _ in known}


def test_what_is_written_meanwhile_is_under_the_new_key_in_a_process_that_remembers_the_old_one(workspace_a: Any) -> None:
    with workspace(workspace_a):
        assert keyring.current_version(workspace_a.id) == 1
    rotation.begin(workspace_a)
    with workspace(workspace_a):
        assert version_of(Collection._meta.get_field("name").seal("x", "New")) == 2


def test_a_second_change_waits_for_the_first(workspace_a: Any) -> None:
    rotation.begin(workspace_a)
    with pytest.raises(Refused, match="already"):
        rotation.begin(workspace_a)


def test_it_can_be_paused_and_goes_on(filled: Any, run_jobs: RunJobs) -> None:
    begun = rotation.begin(filled)
    rotation.pause(filled)
    run_jobs()
    assert versions(filled) == {1, 2}  # the entry of the log is new
    rotation.resume(filled)
    run_jobs()
    begun.refresh_from_db()
    assert begun.state == KeyRotation.State.DONE
    assert versions(filled) == {2}


def test_what_redis_forgets_is_queued_again(filled: Any, run_jobs: RunJobs) -> None:
    import django_rq

    rotation.begin(filled)
    django_rq.get_queue("ingest").connection.flushdb()
    with workspace(filled):
        rotation.queue_lost()
    run_jobs()
    assert versions(filled) == {2}


def test_what_comes_late_under_a_kept_version_is_found_by_the_daily_look(filled: Any, run_jobs: RunJobs) -> None:
    with workspace(filled):
        document = Document.objects.first()
        assert document is not None
        late = bytes(document.__dict__["title"])
    rotation.begin(filled)
    run_jobs()
    with workspace(filled):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE documents_document SET title = %s WHERE id = %s", [late, document.pk])
        assert versions(filled) == {1, 2}
        rotation.queue_lost()
        assert versions(filled) == {2}


def test_a_download_under_way_goes_on_and_an_upload_under_way_is_waited_for(
    filled: Any, run_jobs: RunJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workspace(filled):
        document = Document.objects.first()
        assert document is not None
        pieces = storage.read(document.id, document.stored_name)
        first = next(pieces)
        incoming = storage.IncomingFile(Document().id)
        incoming.write(b"began before " * 10_000)
    begun = rotation.begin(filled)
    waited = 0

    def sleep(seconds: float) -> None:
        nonlocal waited
        waited += 1
        if waited == 3:  # the upload ends
            with workspace(filled):
                stored = incoming.complete()
                DocumentFactory(id=stored.document_id, stored=stored)

    monkeypatch.setattr(rotation.time, "sleep", sleep)
    run_jobs()
    begun.refresh_from_db()
    assert begun.state == "done"
    assert versions(filled) == {2}
    with workspace(filled):
        assert first + b"".join(pieces) == b"".join(storage.read(document.id, document.stored_name))


def test_a_document_deleted_while_its_file_is_encrypted_anew_leaves_no_file(filled: Any) -> None:
    from documents import erasing

    rotation.begin(filled)
    with workspace(filled):
        document = Document.objects.first()
        assert document is not None
        rekeying.DocumentFiles().renew(str(document.id), lambda: erasing.erase([document.id]))
        assert not [path for path, _ in storage._files() if path.name.startswith(document.stored_name)]


def test_a_value_that_does_not_open_is_named_and_the_old_key_stays(filled: Any, run_jobs: RunJobs) -> None:
    with workspace(filled), connection.cursor() as cursor:
        cursor.execute("UPDATE documents_page SET text = set_byte(text, 30, get_byte(text, 30) # 1)")
    begun = rotation.begin(filled)
    run_jobs()
    begun.refresh_from_db()
    assert begun.state == "failed"
    assert "documents_page" in begun.detail
    assert not TenantKey.objects.filter(tenant=filled, state="retired").exists()
    with workspace(filled), connection.cursor() as cursor:
        cursor.execute("UPDATE documents_page SET text = set_byte(text, 30, get_byte(text, 30) # 1)")
    rotation.resume(filled)
    run_jobs()
    begun.refresh_from_db()
    assert begun.state == "done"


def test_an_edit_at_the_same_time_is_not_lost(filled: Any) -> None:
    """Rows that somebody holds are left for the next pass, and nobody waits."""
    import threading

    rotation.begin(filled)
    holding, looked = threading.Event(), threading.Event()

    def edit() -> None:
        from django.db import connection as mine
        from django.db import transaction

        try:
            with workspace(filled), transaction.atomic():
                row = Collection.objects.select_for_update().first()
                assert row is not None
                row.name = "Renamed meanwhile"
                row.save()
                holding.set()
                looked.wait(20)
        finally:
            mine.close()

    editor = threading.Thread(target=edit)
    editor.start()
    assert holding.wait(20)
    with workspace(filled):
        rotation.renew_all(2)
        looked.set()
        editor.join()
        rotation.renew_all(2)
        assert "Renamed meanwhile" in [collection.name for collection in Collection.objects.all()]
    assert versions(filled) == {2}


def test_the_old_key_is_destroyed_when_its_time_is_over(filled: Any, run_jobs: RunJobs) -> None:
    copied = bytes(TenantKey.objects.get(tenant=filled, version=1).wrapped)
    before = texts(filled)
    rotation.begin(filled)
    run_jobs()
    rotation.destroy_due()
    assert TenantKey.objects.get(tenant=filled, version=1).state == "retired"
    TenantKey.objects.filter(tenant=filled, version=1).update(destroy_at=timezone.now())
    rotation.destroy_due()
    old = TenantKey.objects.get(tenant=filled, version=1)
    assert (old.state, bytes(old.wrapped)) == ("destroyed", b"")
    assert texts(filled) == before, "the rest opens under a new wrapping key"
    from tenants.keys.keyring import wrap_binding

    with pytest.raises(KeyUnavailable):  # what a backup of the database holds
        provider().unwrap(filled.id, copied, wrap_binding(filled.id, 1))
    with workspace(filled):
        assert digest("dedupe", "collection:documents")
        with pytest.raises(KeyUnavailable, match="destroyed"):
            keyring.subkey(filled.id, 1, "text")
    rotation.begin(filled)  # and once more, from a workspace whose first version is gone
    run_jobs()
    assert versions(filled) == {3}
    assert texts(filled) == before


def test_a_key_that_something_came_late_under_is_looked_after_before_it_goes(filled: Any, run_jobs: RunJobs) -> None:
    with workspace(filled):
        late = bytes(Document._meta.get_field("title").seal(Document.objects.earliest("id").pk, "Written late"))
    rotation.begin(filled)
    run_jobs()
    with workspace(filled), connection.cursor() as cursor:
        first = Document.objects.earliest("id").pk
        cursor.execute("UPDATE documents_document SET title = %s WHERE id = %s", [late, first])
    TenantKey.objects.filter(tenant=filled, version=1).update(destroy_at=timezone.now())
    rotation.destroy_due()
    assert TenantKey.objects.get(tenant=filled, version=1).state == "destroyed"
    with workspace(filled):
        assert Document.objects.get(pk=first).title == "Written late"
