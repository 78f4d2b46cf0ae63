"""The same bytes again: offered, not doubled, and nobody learns of what they may not see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from documents import importing, ingestion, storage, trash
from documents.models import Collection, Document
from documents.receiving import collection_named, create_collection, receive
from search.sources import CorpusText
from tenants.context import workspace

pytestmark = pytest.mark.django_db(transaction=True)

Address = Callable[[str], str]
WORDS = b"Ships tie up in the harbour at night."


def upload(client: Client, address: Address, name: str, content: bytes = WORDS, *, json: bool = True, **fields: Any) -> Any:
    data = {"files": [SimpleUploadedFile(name, content)], **fields}
    return client.post(address("documents/upload/"), data, headers={"Accept": "application/json"} if json else {})


def test_they_are_offered_and_taken_when_asked_for(
    client_editor: Client, address: Address, workspace_a: Any, listed: Callable[[], list[Path]]
) -> None:
    first = upload(client_editor, address, "<b>ships.txt").json()["documents"][0]
    again = upload(client_editor, address, "other.txt")
    assert again.status_code == 422
    assert again.json()["already"] == [{"name": "other.txt", "title": "<b>ships", "url": first["url"]}]
    assert len(listed()) == 1, "not stored twice"
    page = upload(client_editor, address, "other.txt", json=False).content.decode()
    assert "Already here as “&lt;b&gt;ships”" in page
    assert 'name="anyway"' in page
    assert first["url"] in page
    same = upload(client_editor, address, "<b>ships.txt").json()
    assert "nothing to do" in same["errors"][0]["message"]
    assert upload(client_editor, address, "other.txt", anyway="1").json()["documents"]
    with workspace(workspace_a):
        assert Document.objects.count() == 2
        trash.trash(Document.objects.values_list("pk", flat=True), 1)
    assert upload(client_editor, address, "third.txt").json()["documents"], "what is in the trash is not here"


def test_those_stored_before_digests_were_kept_are_known_by_their_files(
    client_editor: Client, address: Address, workspace_a: Any
) -> None:
    first = upload(client_editor, address, "ships.txt").json()["documents"][0]
    with workspace(workspace_a):
        digest = Document.objects.get().content_digest
        Document.objects.update(content_digest=None)
    assert upload(client_editor, address, "other.txt", WORDS.upper()).json()["documents"], "of the same size, and not the same"
    assert upload(client_editor, address, "third.txt").json()["already"][0]["url"] == first["url"]
    with workspace(workspace_a):
        assert Document.objects.get(pk=first["id"]).content_digest == digest


def test_a_restricted_collection_and_another_workspace_are_not_revealed(
    client_editor: Client, address: Address, workspace_a: Any, workspace_b: Any
) -> None:
    digests = []
    for tenant in (workspace_a, workspace_b):
        with workspace(tenant):
            secret = create_collection("Secret", restricted=True)
            digests.append(receive(storage.store(uuid4(), [WORDS]), "ships.txt", secret).content_digest)
    assert digests[0] != digests[1], "no equality across workspaces"
    taken = upload(client_editor, address, "ships.txt").json()
    assert taken["documents"]
    assert taken["already"] == []


def test_an_import_brings_a_new_version_of_what_changed(in_workspace_a: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"The words of {name}")
    assert len(importing.import_folder(folder, "Files").documents) == 2
    (folder / "a.txt").write_text("The other of a.txt")  # as long as before
    again = importing.import_folder(folder, "Files")
    assert (len(again.documents), again.already) == (1, 1)
    assert Document.objects.get(pk=again.documents[0]).version == 2
    assert importing.import_folder(folder, "Files").already == 2
    texts = [CorpusText("1", "A title", "Some text"), CorpusText("2", "B title", "More text")]
    importing.import_texts(texts, "Texts")
    changed = importing.import_texts([CorpusText("1", "A title", "Same text"), texts[1]], "Texts")
    assert (len(changed.documents), changed.already) == (1, 1)


def test_history_comparison_and_use_on_their_pages(
    client_editor: Client, client_viewer: Client, address: Address, workspace_a: Any, model_dir: Path
) -> None:
    ids: list[UUID] = []
    for text in (WORDS, b"Ships <i>sail</i> out in the morning."):
        ids.append(UUID(upload(client_editor, address, "ships.txt", text).json()["documents"][0]["id"]))
        with workspace(workspace_a):
            ingestion.ingest(ids[-1])
    first, second = ids
    old = client_viewer.get(address(f"documents/{first}/")).content.decode()
    assert "Version 1 of 2, not in use" in old
    assert address(f"documents/{second}/") in old
    assert "Use again" not in old
    assert "More like this" not in old
    compared = client_viewer.get(address(f"documents/{first}/compare/")).content.decode()
    assert "<ins>+ Ships &lt;i&gt;sail&lt;/i&gt; out in the morning.</ins>" in compared
    assert "<del>− Ships tie up in the harbour at night.</del>" in compared
    unread = upload(client_editor, address, "ships.txt", b"Not read yet.").json()["documents"][0]["id"]
    assert "has no text" in client_viewer.get(address(f"documents/{unread}/compare/")).content.decode()
    assert client_editor.post(address(f"documents/{unread}/delete/"), follow=True).status_code == 200
    assert client_viewer.post(address(f"documents/{first}/use/")).status_code == 403
    done = client_editor.post(address(f"documents/{first}/use/"), follow=True).content.decode()
    assert "Version 1 of “ships” is in use again" in done
    page = client_editor.get(address("documents/")).content.decode()
    assert address(f"documents/{first}/") in page
    assert address(f"documents/{second}/") not in page
    with workspace(workspace_a):
        assert Collection.objects.count() == 1
        assert collection_named("Documents").documents.filter(trashed_at=None).count() == 2
