"""Importing a folder or the texts of another system: once each, with a word for what was not taken."""

from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.db import DatabaseError

from documents import describing, ingestion, storage
from documents.fields import add_field
from documents.importing import import_folder, import_texts
from documents.models import Collection, Document
from documents.receiving import collection_named, receive
from documents.sidecar import BadSidecar
from search.sources import CorpusText
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.errors import Refused

pytestmark = pytest.mark.usefixtures("in_workspace_a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    (made / "sub").mkdir(parents=True)
    (made / ".git").mkdir()
    for name in ("a.txt", "sub/Größe.md", ".hidden", ".git/config"):
        (made / name).write_text(f"words of {name}")
    return made


def test_a_folder(folder: Path) -> None:
    done = import_folder(folder, "Imported", created_by_id=7)
    assert len(done.documents) == 2
    assert done.refused == []
    found = {document.reference: document for document in Document.objects.all()}
    assert sorted(found) == ["a.txt", "sub/Größe.md"]
    assert (found["sub/Größe.md"].file_name, found["sub/Größe.md"].title) == ("Größe.md", "Größe")
    assert found["a.txt"].created_by_id == 7
    assert found["a.txt"].collection.name == "Imported"


def test_importing_again_takes_only_what_is_new(folder: Path) -> None:
    import_folder(folder, "Imported")
    (folder / "new.txt").write_text("new")
    again = import_folder(folder, "imported")
    assert (len(again.documents), again.already) == (1, 2)
    assert Document.objects.count() == 3


def test_a_single_file(folder: Path) -> None:
    assert len(import_folder(folder / "a.txt", "Imported").documents) == 1


def test_only_what_fits_a_pattern(folder: Path) -> None:
    done = import_folder(folder, "Imported", patterns=["*.md", "sub/nothing*"])
    assert [Document.objects.get(pk=pk).reference for pk in done.documents] == ["sub/Größe.md"]
    assert len(import_folder(folder, "Imported", patterns=["sub/*", "a.*"]).documents) == 1
    with pytest.raises(Refused, match=r"No file in .* fits \*\.pdf or \*\.docx\."):
        import_folder(folder, "Imported", patterns=["*.pdf", "*.docx"])


def test_metadata_by_a_csv_file(folder: Path) -> None:
    collection = collection_named("Imported")
    add_field(collection, "Pages", "integer")
    for wrong, said in (("sub/no.md,4", "Line 2: there is no file “sub/no.md”"), ("a.txt,four", "Line 2, Pages: “four”")):
        with pytest.raises(BadSidecar, match=said):
            import_folder(folder, "Imported", metadata=f"file,Pages\n{wrong}\n".encode())
    assert not Document.objects.exists()
    import_folder(folder, "Imported", metadata="file,Pages\nsub/Gro\u0308ße.md,4\n".encode())
    found = {document.reference: [value.value for value in document.values.all()] for document in Document.objects.all()}
    assert found == {"a.txt": [], "sub/Größe.md": ["4"]}


def test_a_refused_import_leaves_no_collection_and_no_entry(folder: Path) -> None:
    with pytest.raises(BadSidecar):
        import_folder(folder, "Never", metadata=b"file,No\na.txt,1\n")
    assert not Collection.objects.filter(is_canary=False).exists()
    assert not Entry.objects.filter(event=Event.COLLECTION_CREATED).exists()


def test_a_field_deleted_meanwhile_takes_its_value_along(folder: Path) -> None:
    collection = collection_named("Imported")
    field = add_field(collection, "Pages", "integer")
    stored = storage.store(uuid4(), [b"words"])
    describing.delete_field(field)
    document = receive(stored, "a.txt", collection, values={field.pk: "4"})
    assert not document.values.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="There is no"):
        import_folder(tmp_path / "nowhere", "Imported")


def test_what_is_not_taken_is_named(folder: Path, settings: LazySettings) -> None:
    settings.MAX_UPLOAD_BYTES = 14
    done = import_folder(folder, "Imported")
    assert len(done.documents) == 1
    assert [(refused.name, "larger than" in refused.message) for refused in done.refused] == [("sub/Größe.md", True)]


def test_texts(model_dir: Path) -> None:
    items = [CorpusText("d1", "A title", "and its words"), CorpusText("d2", "", "words alone"), CorpusText("d3", "", "")]
    done = import_texts(items, "Corpus")
    assert import_texts(items, "Corpus").already == 3
    for document_id in done.documents:
        ingestion.ingest(document_id)
    first, second, third = (Document.objects.get(pk=pk) for pk in done.documents)
    assert (first.reference, first.title, first.page_set.get().text) == ("d1", "A title", "A title\n\nand its words")
    assert (second.title, second.page_set.get().text) == ("d2", "words alone")
    assert (third.state, third.reason) == ("failed", "empty")


def test_a_row_that_cannot_be_written_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise DatabaseError("the connection is gone")

    monkeypatch.setattr(Document, "save_base", broken)
    before = files()
    with pytest.raises(DatabaseError):
        import_folder(folder, "Imported")
    with pytest.raises(DatabaseError):
        import_texts([CorpusText("d1", "A title", "and its words")], "Corpus")
    assert files() == before


def files() -> set[Path]:
    return {path for path in Path(django_settings.FILES_DIR).rglob("*") if path.is_file()}
