"""Large files in pieces: what was committed is not sent again, whatever broke off."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client

from documents import erasing, jobs, resuming, storage
from documents.models import Arrival, Collection, Document
from tenants.context import workspace
from tenants.locks import alone_with
from tenants.people import change_role

CONTENT = b"marker-of-the-hidden-orchard " * 10
Address = Callable[[str], str]
Begin = Callable[..., Any]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def begin(client_editor: Client, address: Address, monkeypatch: pytest.MonkeyPatch) -> Begin:
    monkeypatch.setattr(resuming, "PIECE_BYTES", 100)

    def ask(size: int = len(CONTENT), name: str = "herons.txt") -> Any:
        return client_editor.post(address("documents/arriving/"), {"name": name, "size": size, "modified": "7"})

    return ask


def put(client: Client, told: dict[str, Any], offset: int, content: bytes) -> Any:
    return client.put(f"{told['url']}?offset={offset}", content, content_type="application/octet-stream")


@contextmanager
def elsewhere_alone_with(identity: UUID) -> Iterator[None]:
    """Another session has the lock."""
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with alone_with(identity) as alone:
            assert alone
            begun.set()
            ended.wait(10)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert begun.wait(10)
        yield
        ended.set()
        holding.result()


def test_a_file_goes_on_from_where_it_was_and_becomes_one_document(
    client_editor: Client, editor: Any, begin: Begin, workspace_a: Any, listed: Callable[[], list[Path]]
) -> None:
    told = begin().json()
    assert (told["offset"], told["piece_bytes"]) == (0, 100)
    assert put(client_editor, told, 0, CONTENT[:100]).json()["offset"] == 100
    with workspace(workspace_a), pytest.raises(resuming.CutShort):
        resuming.add(Arrival.objects.get(), 100, 100, [CONTENT[100:150]])  # the connection broke
    assert len(listed()) == 1
    again = begin().json()  # the page was loaded anew and the file chosen again
    assert (again["url"], again["offset"]) == (told["url"], 100)
    wrong = put(client_editor, told, 0, CONTENT[:100])
    assert (wrong.status_code, wrong.json()["offset"]) == (409, 100)
    assert client_editor.post(told["complete"]).status_code == 409
    assert put(client_editor, told, 100, CONTENT[100:250]).status_code == 422, "larger than a piece"
    for start in (100, 200):
        assert put(client_editor, told, start, CONTENT[start : start + 100]).status_code == 200
    assert b"hidden-orchard" not in b"".join(path.read_bytes() for path in listed())
    identity = UUID(told["url"].rstrip("/").rpartition("/")[2])
    with elsewhere_alone_with(uuid5(identity, "complete")):
        busy = client_editor.post(told["complete"])
        assert (busy.status_code, busy["Retry-After"]) == (503, "5"), "no second copy of it is made"
    made = client_editor.post(told["complete"]).json()["documents"][0]
    assert client_editor.post(told["complete"]).json()["documents"][0]["id"] == made["id"], "who asks twice gets the same"
    with workspace(workspace_a):
        (document,) = Document.objects.all()
        assert (document.file_name, document.size, document.created_by_id) == ("herons.txt", len(CONTENT), editor.pk)
        assert b"".join(storage.read(document.id, document.stored_name)) == CONTENT
        assert not Arrival.objects.exists()
    assert len(listed()) == 1


def test_it_is_one_persons_and_refused_before_a_byte_is_sent(
    client_editor: Client, client_owner: Client, begin: Begin, settings: LazySettings
) -> None:
    told = begin().json()
    assert put(client_owner, told, 0, CONTENT[:100]).status_code == 404
    assert client_owner.get(told["url"]).status_code == 404
    assert client_owner.post(told["complete"]).status_code == 404
    settings.MAX_UPLOAD_BYTES = 200
    refused = begin()
    assert refused.status_code == 422
    assert "larger than the 200 bytes" in refused.json()["errors"][0]["message"]
    assert client_editor.delete(told["url"]).status_code == 200
    assert client_editor.get(told["url"]).status_code == 404


def test_what_nobody_went_on_with_is_removed_and_what_goes_on_is_kept(
    client_editor: Client, begin: Begin, workspace_a: Any, listed: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "every", lambda seconds, name: name == "orphans")
    for name in ("left.txt", "goes on.txt"):
        assert put(client_editor, begin(name=name).json(), 0, CONTENT[:100]).status_code == 200
    for path in listed():
        os.utime(path, (1, 1))
    with workspace(workspace_a):
        left = next(arrival for arrival in Arrival.objects.all() if arrival.about["name"] == "left.txt")
        Arrival.objects.filter(pk=left.pk).update(touched_at="2020-01-01T00:00Z")
        jobs.sweep()
        (kept,) = Arrival.objects.all()
        assert kept.about["name"] == "goes on.txt"
        assert [path.name for path in listed()] == kept.pieces


def test_what_is_here_already_is_offered_and_taken_anyway_without_sending_it_again(
    client_editor: Client, begin: Begin, workspace_a: Any
) -> None:
    def send(name: str) -> dict[str, Any]:
        told: dict[str, Any] = begin(name=name).json()
        for start in (0, 100, 200):
            put(client_editor, told, start, CONTENT[start : start + 100])
        return told

    first = client_editor.post(send("herons.txt")["complete"]).json()["documents"][0]
    told = send("storks.txt")
    refused = client_editor.post(told["complete"])
    assert (refused.status_code, refused.json()["already"][0]["url"]) == (422, first["url"])
    assert client_editor.post(told["complete"], {"anyway": "1"}).json()["documents"][0]["name"] == "storks.txt"
    with workspace(workspace_a):
        assert Document.objects.count() == 2
        assert not Arrival.objects.exists()


def test_a_disk_that_fills_up_is_said_and_what_had_arrived_is_kept(
    client_editor: Client, begin: Begin, workspace_a: Any, listed: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = begin().json()
    put(client_editor, told, 0, CONTENT[:100])
    write = storage.IncomingFile.write

    def full(incoming: storage.IncomingFile, plaintext: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.IncomingFile, "write", full)
    refused = put(client_editor, told, 100, CONTENT[100:200])
    assert (refused.status_code, refused.json()["errors"][0]["message"]) == (422, resuming.NO_ROOM)
    assert len(listed()) == 1
    monkeypatch.setattr(storage.IncomingFile, "write", write)
    assert put(client_editor, told, 100, CONTENT[100:200]).json()["offset"] == 200


def test_two_who_begin_the_same_at_once_go_on_with_one(
    editor: Any, begin: Begin, workspace_a: Any, sign_in: Callable[[Any], Client], address: Address
) -> None:
    begin(name="another.txt")  # makes the collection
    clients = [sign_in(editor) for _ in range(4)]

    def ask(client: Client) -> str:
        try:
            about = {"name": "herons.txt", "size": 290, "modified": "7"}
            return str(client.post(address("documents/arriving/"), about).json()["url"])
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, clients))) == 1
    with workspace(workspace_a):
        assert Arrival.objects.count() == 2


def test_whoever_may_not_any_more_is_refused_and_goes_on_when_they_may_again(
    client_editor: Client, editor: Any, owner: Any, begin: Begin, workspace_a: Any
) -> None:
    told = begin().json()
    for start in (0, 100):
        put(client_editor, told, start, CONTENT[start : start + 100])

    def refused(status: int) -> None:
        assert put(client_editor, told, 200, CONTENT[200:]).status_code == status
        assert client_editor.post(told["complete"]).status_code == status

    change_role(workspace_a, editor.pk, "viewer", by=owner.pk)
    refused(403)
    change_role(workspace_a, editor.pk, "editor", by=owner.pk)
    with workspace(workspace_a):
        Collection.objects.update(restricted=True)
    refused(404)
    with workspace(workspace_a):
        Collection.objects.update(restricted=False)
        assert Arrival.objects.get().received == 200
    assert put(client_editor, told, 200, CONTENT[200:]).status_code == 200
    assert client_editor.post(told["complete"]).status_code == 200


def test_what_was_arriving_goes_with_its_collection(
    client_editor: Client, begin: Begin, workspace_a: Any, listed: Callable[[], list[Path]]
) -> None:
    told = begin().json()
    put(client_editor, told, 0, CONTENT[:100])
    with workspace(workspace_a):
        erasing.erase_collection(Collection.objects.get())
        assert not Arrival.objects.exists()
    assert listed() == []
    assert put(client_editor, told, 100, CONTENT[100:200]).status_code == 404
