"""A workspace taken away: every file as it was, and what Cloister can read again beside it."""

import csv
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from documents import exporting, storage, trash
from documents.describing import describe
from documents.fields import add_field
from documents.importing import import_folder
from documents.models import Document
from documents.receiving import collection_named, receive
from search.evaluation import judgments, runs
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.models import Tenant


def put(content: bytes, name: str, collection: str = "Papers", reference: str = "") -> Document:
    stored = storage.store(uuid4(), [content])
    return receive(stored, name, collection_named(collection), reference=reference)


def opened() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(exporting.archive())))


def table(archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read(name).decode("utf-8-sig"))))


@pytest.mark.usefixtures("in_workspace_a")
class TestTheArchive:
    def test_every_file_is_as_it_was(self) -> None:
        large = os.urandom(1_000_000)
        put(large, "Größe.bin")
        put(b"first", "a.txt")
        put(b"second", "A.txt")
        put(b"third", "c.txt", reference="deep/er/c.txt")
        put(b"fourth", "d.txt", reference="../../etc/d.txt")
        put(b"fifth", ".env", "Of/../others")
        trash.trash([put(b"gone", "gone.txt").pk], None)
        with opened() as archive:
            assert archive.testzip() is None
            files = {name: archive.read(name) for name in archive.namelist() if name.startswith("files/")}
            known = table(archive, "documents.csv")
        assert files == {
            "files/Papers/Größe.bin": large,
            "files/Papers/a.txt": b"first",
            "files/Papers/A (2).txt": b"second",
            "files/Papers/deep/er/c.txt": b"third",
            "files/Papers/d.txt": b"fourth",
            "files/Of_.._others/_env": b"fifth",
        }
        assert {row["path"] for row in known} == set(files)
        assert {row["state"] for row in known} == {"queued"}

    def test_titles_are_no_formulas(self) -> None:
        put(b"x", "=HYPERLINK(A1).txt")
        with opened() as archive:
            (row,) = table(archive, "documents.csv")
        assert row["title"].startswith("'=")

    def test_what_cannot_be_read_is_named_and_the_rest_comes(self) -> None:
        gone, changed = put(b"x" * 10, "gone.txt"), put(b"y" * 200_000, "changed.bin")
        put(b"whole", "whole.txt")
        storage.remove([gone.stored_name])
        path = storage._path(changed.stored_name)
        content = bytearray(path.read_bytes())
        content[100_000] ^= 1
        path.write_bytes(content)
        with opened() as archive:
            said = archive.read("missing.txt").decode().splitlines()[1:]
            assert archive.read("files/Papers/whole.txt") == b"whole"
            assert len(archive.read("files/Papers/changed.bin")) < 200_000
        assert said == ["files/Papers/gone.txt", "files/Papers/changed.bin"]

    def test_metadata_names_no_file_that_is_missing(self, tmp_path: Path) -> None:
        collection = collection_named("Papers")
        add_field(collection, "State", "keyword")
        gone, here = put(b"x", "gone.txt"), put(b"y", "here.txt")
        for each in (gone, here):
            describe(each, {"State": "open"})
        storage.remove([gone.stored_name])
        with opened() as archive:
            archive.extractall(tmp_path)
        metadata = (tmp_path / "metadata" / "Papers.csv").read_bytes()
        add_field(collection_named("Again"), "State", "keyword")
        assert len(import_folder(tmp_path / "files" / "Papers", "Again", metadata=metadata).documents) == 1

    def test_it_can_be_imported_again(self, tmp_path: Path) -> None:
        collection = collection_named("Papers")
        add_field(collection, "Pages", "integer")
        add_field(collection, "State", "keyword")
        described = put(b"first", "a.txt", reference="sub/a.txt")
        describe(described, {"State": "=open, “really”"})
        put(b"second", "b.txt")
        parsed = judgments.parse("q.csv", io.BytesIO(b'question,document,grade\n"What, first?",a.txt,2\n'))
        runs.create_judgment_set("Questions", parsed)
        with opened() as archive:
            archive.extractall(tmp_path)
            again = judgments.parse("q.csv", io.BytesIO(archive.read("judgments/Questions.csv")))
        assert again.questions == parsed.questions
        for field in ("Pages", "State"):
            add_field(collection_named("Again"), field, "integer" if field == "Pages" else "keyword")
        metadata = (tmp_path / "metadata" / "Papers.csv").read_bytes()
        done = import_folder(tmp_path / "files" / "Papers", "Again", metadata=metadata)
        found = {each.reference: each for each in Document.objects.filter(pk__in=done.documents)}
        assert sorted(found) == ["b.txt", "sub/a.txt"]
        assert [value.value for value in found["sub/a.txt"].values.all()] == ["=open, “really”"]
        assert b"".join(storage.read(found["b.txt"].pk, found["b.txt"].stored_name)) == b"second"

    def test_memory_holds_a_piece_and_not_a_file(self) -> None:
        put(bytes(3_000_000), "large.bin")
        assert max(map(len, exporting.archive())) < 1_000_000


@pytest.mark.django_db(transaction=True)
def test_owners_take_it_and_the_log_says_so(workspace_a: Tenant, client_owner: Client, client_editor: Client) -> None:
    with workspace(workspace_a):
        put(b"words", "a.txt")
    page = client_owner.get("/w/alpha/export/").content.decode()
    assert "1 document" in page
    answer = client_owner.post("/w/alpha/export/")
    assert "attachment" in answer["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:  # type: ignore[attr-defined]
        assert archive.read("files/Papers/a.txt") == b"words"
    with workspace(workspace_a):
        assert Entry.objects.filter(event="document.exported").get().details["about"]["documents"] == 1
    assert client_editor.get("/w/alpha/export/").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_a_command_writes_it_for_one_alone(workspace_a: Tenant, tmp_path: Path, capsys: Any) -> None:
    with workspace(workspace_a):
        put(b"words", "a.txt")
    target = tmp_path / "out.zip"
    call_command("export_workspace", str(target), "--workspace", "alpha")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with zipfile.ZipFile(target) as archive:
        assert archive.read("files/Papers/a.txt") == b"words"
    with pytest.raises(CommandError, match="cannot be written: File exists"):
        call_command("export_workspace", str(target), "--workspace", "alpha")
