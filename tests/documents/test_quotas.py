"""Limits of documents and bytes: counted with the rows, enforced before work starts, never shared by two uploads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from documents import erasing, jobs, quotas, storage, uploads
from documents.importing import import_folder, import_texts
from documents.models import Collection, Document, Usage
from documents.receiving import collection_named, receive
from search.sources import CorpusText
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.provisioning import request_workspace
from tests.factories import DocumentFactory

GB = 10**9


def limit(tenant: Tenant, documents: int | None = None, size: int | None = None) -> None:
    with public_context():
        Tenant.objects.filter(pk=tenant.pk).update(quota_documents=documents, quota_bytes=size)


def counted() -> tuple[int, int]:
    return Usage.objects.values_list("documents", "bytes").get(pk=1)


def received(content: bytes = b"some words", collection: str = "Documents", name: str = "") -> Document:
    stored = storage.store(Document().id, [content])
    return receive(stored, name or f"{stored.stored_name}.txt", collection_named(collection))


def upload(client: Client, tenant: Tenant, *contents: bytes, **headers: str) -> Any:
    files = [SimpleUploadedFile(f"{number}.txt", content) for number, content in enumerate(contents)]
    given = {"Accept": "application/json", **headers}
    return client.post(f"{tenant.path}documents/upload/", {"anyway": "1", "files": files}, headers=given)


# ---------------------------------------------------------------- counting


def test_what_is_received_counts_and_what_is_deleted_counts_no_more(in_workspace_a: Tenant) -> None:
    first = received(b"12345")
    received(b"123")
    assert counted() == (2, 8)
    erasing.erase([first.id])
    assert counted() == (1, 3)
    erasing.erase_collection(collection_named("Documents"))
    assert counted() == (0, 0)


def test_canaries_do_not_count(in_workspace_a: Tenant) -> None:
    limit(in_workspace_a, documents=0)
    canary = Collection.objects.create(name="Canary", name_digest=b"x" * 32, is_canary=True)
    made = receive(storage.store(Document().id, [b"12345"]), "a.txt", canary)
    assert counted() == (0, 0)
    quotas.recount()
    assert counted() == (0, 0)
    erasing.erase([made.id])
    assert counted() == (0, 0)


def test_recounting_sets_what_is_there(in_workspace_a: Tenant) -> None:
    DocumentFactory(content=b"12345")
    assert counted() == (0, 0)
    Usage.objects.update(documents=7, bytes=7)
    quotas.recount()
    assert counted() == (1, 5)


def test_the_sweep_recounts_daily(in_workspace_a: Tenant) -> None:
    DocumentFactory(content=b"12345")
    jobs.sweep()
    assert counted() == (1, 5)
    Usage.objects.update(documents=7)
    jobs.sweep()
    assert counted()[0] == 7


# ---------------------------------------------------------------- enforced


def test_a_full_workspace_says_what_is_used_and_what_to_do(in_workspace_a: Tenant) -> None:
    limit(in_workspace_a, documents=1)
    received()
    with pytest.raises(Refused, match=r"holds 1 of the 1 documents it may have; one more does not fit. Delete documents"):
        received()
    limit(in_workspace_a, size=12)
    with pytest.raises(
        Refused, match=r"holds 10\s?bytes of the 12\s?bytes it may have; what is left, 2\s?bytes, is not enough."
    ):
        received()
    assert counted() == (1, 10)
    assert Document.objects.count() == 1


def test_each_file_of_an_upload_is_asked_for(
    client_editor: Client, workspace_a: Tenant, listed: Callable[[], list[Path]]
) -> None:
    limit(workspace_a, documents=2, size=25)
    answer = upload(client_editor, workspace_a, b"0123456789", b"x" * 20, b"0123456789")
    assert answer.status_code == 200
    assert [one["name"] for one in answer.json()["documents"]] == ["0.txt", "2.txt"]
    assert [one["name"] for one in answer.json()["errors"]] == ["1.txt"]  # with the first it would be 30 bytes
    assert "is not enough" in answer.json()["errors"][0]["message"]
    answer = upload(client_editor, workspace_a, b"one more")
    assert answer.status_code == 422
    assert "holds 2 of the 2 documents" in answer.json()["errors"][0]["message"]
    page = client_editor.post(f"{workspace_a.path}documents/upload/", {"files": SimpleUploadedFile("a.txt", b"x")})
    assert page.status_code == 422
    assert "holds 2 of the 2 documents" in page.content.decode()


def test_what_cannot_fit_is_refused_before_it_is_read(
    client_editor: Client, workspace_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "ENVELOPE_BYTES", 1000)
    limit(workspace_a, size=5000)

    class Unread:
        def read(self, *args: Any) -> bytes:
            raise AssertionError("the body was read")

        readline = read

    answer = client_editor.generic(
        "POST",
        f"{workspace_a.path}documents/upload/",
        b"",
        headers={"Accept": "application/json"},
        **{"wsgi.input": Unread(), "CONTENT_TYPE": "multipart/form-data; boundary=x", "CONTENT_LENGTH": "6001"},
    )
    assert answer.status_code == 422
    assert "it may have" in answer.json()["errors"][0]["message"]


def test_a_file_without_room_is_not_encrypted(
    client_editor: Client, workspace_a: Tenant, monkeypatch: pytest.MonkeyPatch, listed: Callable[[], list[Path]]
) -> None:
    limit(workspace_a, size=1_000_000)
    written: list[int] = []
    original = storage.IncomingFile.write
    monkeypatch.setattr(storage.IncomingFile, "write", lambda self, data: written.append(len(data)) or original(self, data))
    assert upload(client_editor, workspace_a, b"x" * 1_500_000).status_code == 422
    assert sum(written) <= 1_000_000
    assert listed() == []


@pytest.mark.django_db(transaction=True)
def test_two_uploads_at_once_never_share_the_last_place(
    editor: Any, workspace_a: Tenant, sign_in: Callable[[Any], Client]
) -> None:
    limit(workspace_a, documents=5)
    clients = [sign_in(editor) for _ in range(8)]

    def send(client: Client) -> int:
        try:
            return len(upload(client, workspace_a, b"one", b"two").json()["documents"])
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, clients)) == 5
    with workspace(workspace_a):
        assert Document.objects.count() == 5
        assert counted()[0] == 5


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["", "versions of one.txt"])
def test_uploads_and_deletions_at_once_keep_the_count_right(workspace_a: Tenant, name: str) -> None:
    said: list[str] = []

    def work(number: int) -> None:
        try:
            with workspace(workspace_a):
                for _ in range(5):
                    made = received(b"12345", f"Collection {number % 2}", name)
                    if number % 3 == 0:
                        erasing.erase([made.id])
                if number == 7:
                    erasing.erase_collection(collection_named("Collection 1"))
                quotas.recount()
        except Refused as refused:
            said.append(str(refused))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert all("deleted in the meantime" in each for each in said)
    with workspace(workspace_a):
        there = Document.objects.count()
        assert counted() == (there, 5 * there)


def test_a_folder_that_does_not_fit_is_refused_whole(
    in_workspace_a: Tenant, tmp_path: Path, listed: Callable[[], list[Path]]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("words")
    limit(in_workspace_a, documents=1)
    with pytest.raises(Refused, match="2 more do not fit"):
        import_folder(folder, "Imported")
    assert not Collection.objects.exists()
    assert listed() == []
    limit(in_workspace_a, documents=2)
    assert len(import_folder(folder, "Imported").documents) == 2
    assert import_folder(folder, "Imported").already == 2, "what is there already needs no room"


def test_texts_that_do_not_fit_are_refused_whole(in_workspace_a: Tenant, listed: Callable[[], list[Path]]) -> None:
    items = [CorpusText(f"d{n}", "", "12345") for n in range(3)]
    limit(in_workspace_a, size=14)
    with pytest.raises(Refused, match=r"what is left, 14\sbytes, is not enough"):
        import_texts(items, "Corpus")
    assert not Collection.objects.exists()
    assert listed() == []
    with pytest.raises(TypeError):
        import_texts(iter(items), "Corpus")


def test_a_place_lost_on_the_way_leaves_no_file(
    in_workspace_a: Tenant, listed: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(in_workspace_a, documents=2)
    monkeypatch.setattr("documents.importing._refuse_without_room", lambda sizes: None)  # others took it meanwhile
    with pytest.raises(Refused, match="one more does not fit"):
        import_texts([CorpusText(f"d{n}", "", "12345") for n in range(3)], "Corpus")
    assert len(listed()) == Document.objects.count() == 2


# ---------------------------------------------------------------- shown


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (900, "900 bytes"), (3_140_000_000, "3.1 GB"), (10 * GB, "10 GB"), (999_990, "1 MB")]
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert quotas.in_words(size).replace("\N{NO-BREAK SPACE}", " ") == words


def test_bars(in_workspace_a: Tenant) -> None:
    assert quotas.bars() == []
    limit(in_workspace_a, documents=1000, size=10 * GB)
    in_workspace_a.refresh_from_db(fields=["quota_documents", "quota_bytes"])  # as with each request
    Usage.objects.update(documents=412, bytes=9_200_000_000)
    documents, size = quotas.bars()
    assert (documents.words, documents.share) == ("412 of 1,000 documents", 0.412)
    assert size.words.replace("\N{NO-BREAK SPACE}", " ") == "9.2 of 10 GB"
    assert (documents.is_tight, size.is_nearly_full) == (False, True)
    Usage.objects.update(bytes=200_000_000)
    assert quotas.bars()[1].words.replace("\N{NO-BREAK SPACE}", " ") == "200 MB of 10 GB"


def test_the_documents_page_shows_a_limit_when_it_is_half_used(
    client_editor: Client, client_viewer: Client, workspace_a: Tenant
) -> None:
    def page(client: Client = client_editor) -> str:
        return str(client.get(f"{workspace_a.path}documents/").content.decode())

    assert "<progress" not in page()
    limit(workspace_a, documents=4)
    with workspace(workspace_a):
        received()
    assert "of 4 documents" not in page()
    with workspace(workspace_a):
        received()
    assert "2 of 4 documents" in page()
    assert "Nearly full" not in page()
    assert "of 4 documents" not in page(client_viewer), "who cannot upload has no use for it"
    with workspace(workspace_a):
        received()
        received()
    assert "Full: 4 of 4 documents" in page()


def test_new_workspaces_get_the_limits_of_the_settings(db: None, settings: LazySettings) -> None:
    made = request_workspace("Free", "free", None)
    assert (made.quota_documents, made.quota_bytes, made.quota_members) == (None, None, None)
    settings.QUOTA_DOCUMENTS, settings.QUOTA_BYTES, settings.QUOTA_MEMBERS = 1000, GB, 5
    made = request_workspace("Small", "small", None)
    made.refresh_from_db()
    assert (made.quota_documents, made.quota_bytes, made.quota_members) == (1000, GB, 5)
