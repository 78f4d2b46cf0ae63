"""Uploading: encrypted while received, one answer for the script and one for a browser without it."""

import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client

from documents import erasing, storage, uploads
from documents.models import Collection, Document
from documents.receiving import create_collection
from tenants.context import workspace

MARKER = b"marker-of-the-hidden-orchard "
Address = Callable[[str], str]


def file(name: str = "a.txt", content: bytes = b"some words") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def upload(client: Client, address: Address, *files: SimpleUploadedFile, **fields: Any) -> Any:
    data = {"files": list(files), **fields}
    return client.post(address("documents/upload/"), data, headers={"Accept": "application/json"})


@pytest.mark.django_db(transaction=True)
def test_it_works(client_editor: Client, editor: Any, address: Address, workspace_a: Any) -> None:
    answer = upload(client_editor, address, file("Größe 数据.pdf", b"%PDF-1.7x"), file("b.txt"))
    assert answer.status_code == 200
    assert [one["name"] for one in answer.json()["documents"]] == ["Größe 数据.pdf", "b.txt"]
    assert answer.json()["errors"] == []
    with workspace(workspace_a):
        first, second = Document.objects.order_by("size")[::-1]
        assert (first.title, first.file_name, first.state, first.size) == ("b", "b.txt", "queued", 10)
        assert second.title == "Größe 数据"
        assert {first.created_by_id, second.created_by_id} == {editor.pk}
        assert first.collection.name == "Documents"
        assert b"".join(storage.read(first.id, first.stored_name)) == b"some words"
    assert answer.json()["documents"][1] == {
        "id": str(first.id),
        "url": address(f"documents/{first.id}/"),
        "name": "b.txt",
        "state": "queued",
    }


@pytest.mark.django_db(transaction=True)
def test_the_job_is_queued_once_the_row_is_committed(client_editor: Client, address: Address, workspace_a: Any) -> None:
    answer = upload(client_editor, address, file())
    queue = django_rq.get_queue("ingest")
    (document,) = answer.json()["documents"]
    assert queue.job_ids == [f"{workspace_a.id.hex}-ingest-{document['id']}"]


def test_it_goes_into_the_chosen_collection(client_editor: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        chosen = create_collection("Letters")
    upload(client_editor, address, file(), collection=str(chosen.id))
    with workspace(workspace_a):
        assert Document.objects.get().collection == chosen


def test_an_unknown_collection_is_refused_and_nothing_kept(
    client_editor: Client, address: Address, workspace_a: Any, listed: Callable[[], list[Path]]
) -> None:
    answer = upload(client_editor, address, file(), collection="00000000-0000-0000-0000-000000000000")
    assert answer.status_code == 422
    assert "no longer exists" in answer.json()["errors"][0]["message"]
    assert listed() == []


def test_it_works_without_the_script(client_editor: Client, address: Address) -> None:
    page = client_editor.get(address("documents/upload/")).content.decode()
    assert 'enctype="multipart/form-data"' in page
    assert 'name="files" multiple' in page
    answer = client_editor.post(address("documents/upload/"), {"files": [file(), file("b.txt", b"others")]}, follow=True)
    assert answer.redirect_chain == [(address("documents/"), 302)]
    assert "2 files uploaded to “Documents”." in answer.content.decode()


def test_without_a_file_it_says_so(client_editor: Client, address: Address) -> None:
    answer = client_editor.post(address("documents/upload/"), {})
    assert answer.status_code == 422
    assert "No file arrived." in answer.content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_size_limit_is_for_each_file(
    client_editor: Client, address: Address, settings: LazySettings, listed: Callable[[], list[Path]]
) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    answer = upload(client_editor, address, file("big.txt", b"x" * 1001), file("fits.txt", b"y" * 1000))
    assert answer.status_code == 200
    assert [one["name"] for one in answer.json()["documents"]] == ["fits.txt"]
    assert answer.json()["errors"] == [
        {"name": "big.txt", "message": "The file is larger than the 1,000 bytes this installation accepts."}
    ]
    assert len(listed()) == 1
    alone = client_editor.post(address("documents/upload/"), {"files": file("big.txt", b"x" * 5000)})
    assert alone.status_code == 422
    assert "big.txt" in alone.content.decode()


def test_a_failed_csrf_check_leaves_no_file(
    editor: Any, address: Address, listed: Callable[[], list[Path]], workspace_a: Any
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(editor, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert upload(client, address, file()).status_code == 403
    assert listed() == []
    page = client.get(address("documents/upload/"))
    token = page.context["csrf_token"]
    assert upload(client, address, file(), csrfmiddlewaretoken=str(token)).status_code == 200
    with workspace(workspace_a):
        assert Document.objects.count() == 1


def test_a_broken_connection_leaves_no_file(client_editor: Client, address: Address, listed: Callable[[], list[Path]]) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n' + MARKER * 1000
    )  # the closing boundary never comes

    class Broken(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            piece = super().read(*args)
            if not piece:
                raise OSError("connection reset")
            return piece

    with pytest.raises(OSError, match="connection reset"):
        client_editor.generic(
            "POST",
            address("documents/upload/"),
            b"",
            **{
                "wsgi.input": Broken(body),
                "CONTENT_TYPE": "multipart/form-data; boundary=x",
                "CONTENT_LENGTH": str(len(body) + 1000),
            },
        )
    assert listed() == []


@pytest.mark.parametrize("content", [b"some words", b"x" * 1_000_000], ids=["when it is completed", "while it is written"])
@pytest.mark.parametrize("fitting", [0, 2])
def test_a_full_disk_is_said_and_leaves_no_file(
    fitting: int,
    content: bytes,
    client_editor: Client,
    address: Address,
    listed: Callable[[], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After `fitting` files, what is written goes to the kernel's own full device."""
    original, opened = os.open, []

    def filling(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if not str(path).endswith(storage.PART):
            return original(path, flags, *args, **kwargs)
        opened.append(path)
        handle = original(path, flags, *args, **kwargs)
        if len(opened) <= fitting:
            return handle
        os.close(handle)
        return original("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", filling)
    answer = upload(client_editor, address, *[file(f"{n}.txt", content) for n in range(fitting + 2)])
    assert len(opened) == fitting + 1
    assert answer.status_code == 507
    assert "no room left" in answer.json()["errors"][0]["message"]
    assert listed() == []


def test_the_last_of_the_disk_is_left_to_the_database(
    client_editor: Client, address: Address, listed: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "left", lambda: storage.KEPT_FREE_BYTES)
    answer = upload(client_editor, address, file())
    assert answer.status_code == 507
    assert listed() == []


@pytest.mark.django_db(transaction=True)
def test_what_fails_after_the_commit_leaves_the_file(
    client_editor: Client, address: Address, workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Putting the job in raises once the row is committed: the sweeper finds the row, and the row its file."""

    def away(*args: Any) -> None:
        raise ConnectionError("no queue")

    monkeypatch.setattr("documents.dispatch.enqueue_ingest", lambda document_id: transaction.on_commit(away))
    with pytest.raises(ConnectionError, match="no queue"):
        upload(client_editor, address, file(content=MARKER))
    with workspace(workspace_a):
        document = Document.objects.get()
        assert b"".join(storage.read(document.id, document.stored_name)) == MARKER


def test_a_row_that_is_not_written_leaves_no_file(
    client_editor: Client, address: Address, listed: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ConnectionError("no database")

    monkeypatch.setattr("documents.quotas.reserve", broken)
    with pytest.raises(ConnectionError):
        upload(client_editor, address, file())
    assert listed() == []


@pytest.mark.django_db(transaction=True)
def test_into_a_collection_that_is_being_deleted(
    client_editor: Client,
    address: Address,
    workspace_a: Any,
    listed: Callable[[], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The upload waits for the deletion's lock, then says what happened."""
    with workspace(workspace_a):
        going = create_collection("Going").id
    deleted, waited = threading.Event(), []

    def before_the_commit(*_: Any, **__: Any) -> None:
        deleted.set()
        waited.append(until_somebody_waits())

    monkeypatch.setattr(erasing, "record", before_the_commit)

    def delete() -> None:
        try:
            with workspace(workspace_a):
                erasing.erase_collection(Collection.objects.get(pk=going))
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        deletion = other.submit(delete)
        assert deleted.wait(10)
        answer = upload(client_editor, address, file(), collection=str(going))
        deletion.result()
    assert waited == [True]
    assert answer.status_code == 422
    assert "deleted in the meantime" in answer.json()["errors"][0]["message"]
    assert listed() == []


def until_somebody_waits() -> bool:
    """Whether, within ten seconds, another session waits for a lock."""
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone() != (0,):
                return True
        time.sleep(0.05)
    return False


def test_plaintext_is_never_on_disk_while_receiving(
    client_editor: Client, address: Address, files_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every file that exists at any moment of a large upload, temporary ones too, is searched for the marker."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[bytes] = []
    original = uploads.EncryptingUploadHandler.receive_data_chunk

    def watching(self: Any, raw_data: bytes, start: int) -> Any:
        result = original(self, raw_data, start)
        seen.extend(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        return result

    monkeypatch.setattr(uploads.EncryptingUploadHandler, "receive_data_chunk", watching)
    assert upload(client_editor, address, file("large.txt", MARKER * 200_000)).status_code == 200
    assert len(seen) > 10
    assert not any(MARKER.strip() in content for content in seen)


@pytest.mark.django_db(transaction=True)
def test_plaintext_is_nowhere_afterwards(
    client_editor: Client,
    address: Address,
    settings: LazySettings,
    run_jobs: Callable[[], int],
    workspace_a: Any,
    model_dir: Path,
) -> None:
    """Not in the files, not in var, not in Redis: of the words, the file name and the collection."""
    with workspace(workspace_a):
        collection = create_collection("collection-of-the-hidden-orchard")
    name = "name-of-the-hidden-orchard.txt"
    upload(client_editor, address, file(name, MARKER * 2000), collection=str(collection.id))
    redis = django_rq.get_queue("ingest").connection
    queued = b"".join(redis.dump(key) or b"" for key in redis.keys("*"))
    assert run_jobs() == 1
    with workspace(workspace_a):
        assert Document.objects.get().state == "ready"
    kept = queued + b"".join(redis.dump(key) or b"" for key in redis.keys("*"))
    for folder in (Path(settings.FILES_DIR), Path(settings.VAR_DIR)):
        kept += b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"hidden-orchard" not in kept


def test_a_file_where_none_is_expected_is_dropped(
    client_editor: Client, address: Address, listed: Callable[[], list[Path]]
) -> None:
    client_editor.post(address("collections/create/"), {"name": "With a file", "x": file(content=MARKER)})
    assert listed() == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("C:\\Users\\ada\\report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("line\nbreak\x00.txt", "linebreak.txt"),
        ("cod\u202efdp.exe", "codfdp.exe"),
        ("数据 Größe 🙂.md", "数据 Größe 🙂.md"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("ü" * 300, "ü" * 300),
        ("ü" * 400 + ".docx", "ü" * 295 + ".docx"),
    ],
)
def test_names(given: str, kept: str) -> None:
    assert uploads.safe_name(given) == kept


def test_a_name_of_300_characters_is_kept(client_editor: Client, address: Address, workspace_a: Any) -> None:
    name = "ü" * 296 + ".txt"
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\nwords\r\n--x--\r\n'
    answer = client_editor.post(
        address("documents/upload/"),
        body,
        content_type="multipart/form-data; boundary=x",
        headers={"Accept": "application/json"},
    )
    assert answer.json()["documents"][0]["name"] == name
    with workspace(workspace_a):
        assert Document.objects.get().file_name == name


def test_a_hundred_files_at_once(client_editor: Client, address: Address, workspace_a: Any) -> None:
    answer = upload(client_editor, address, *[file(f"{n}.txt", f"words {n}".encode()) for n in range(100)])
    assert len(answer.json()["documents"]) == 100
    with workspace(workspace_a):
        assert Document.objects.count() == 100


def test_viewers_may_not_upload_and_are_not_listened_to(
    client_viewer: Client, address: Address, listed: Callable[[], list[Path]]
) -> None:
    assert upload(client_viewer, address, file(content=MARKER)).status_code == 403
    assert client_viewer.get(address("documents/upload/")).status_code == 403
    assert listed() == []


def test_files_of_a_folder_are_told_apart_by_their_paths(client_editor: Client, address: Address, workspace_a: Any) -> None:
    """A script sends the files of a folder one by one, each with its path; the same path again is the next version."""
    sent = (
        ("a/x/readme.txt", b"one"),
        ("a/y/readme.txt", b"two"),
        ("a/x/readme.txt", b"three"),
        ("../../etc/readme.txt", b"4"),
    )
    for path, content in sent:
        assert upload(client_editor, address, file("readme.txt", content), path=path).status_code == 200
    with workspace(workspace_a):
        kept = sorted((document.reference, document.version) for document in Document.objects.all())
    assert kept == [("a/x/readme.txt", 1), ("a/x/readme.txt", 2), ("a/y/readme.txt", 1), ("etc/readme.txt", 1)]


@pytest.mark.parametrize("path", ["readme.txt", "", "/", "./..", "a/" * 600 + "readme.txt"])
def test_a_path_that_says_nothing_is_none(path: str) -> None:
    assert uploads.safe_path(path) == ""
