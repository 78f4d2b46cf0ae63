"""Fields of collections and metadata of documents: what may be stored, who says it, how it comes and goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from documents import describing, erasing, fields, trash
from documents.describing import Invalid, describe
from documents.fields import add_field, read_value
from documents.models import Collection, Document, Field, Value
from documents.receiving import create_collection
from documents.sidecar import BadSidecar, describe_by_csv
from search.models import Facts
from tenants import lifecycle
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tests.factories import CollectionFactory, DocumentFactory

pytestmark = pytest.mark.django_db
Address = Callable[[str], str]
MARKER = "marker-of-the-hidden-orchard"


@pytest.fixture
def contracts(in_workspace_a: Any) -> Collection:
    """A collection with a field of each kind."""
    made: Collection = CollectionFactory(name="Contracts")
    names = ("Partner", "State", "Pages", "Amount", "Signed", "Paid")
    for name, kind in zip(names, Field.Kind.values, strict=True):
        add_field(made, name, kind, filterable=name != "Partner")
    return made


@pytest.fixture
def contract(contracts: Collection) -> Document:
    made: Document = DocumentFactory(collection=contracts, file_name="contract.pdf", state=Document.State.READY)
    return made


def values(document: Document) -> dict[str, str]:
    return {each.field.name: each.value for each in describing.described(document) if each.value}


def field(collection: Collection, name: str) -> Field:
    return next(each for each in fields.fields_of(collection) if each.name == name)


# ---------------------------------------------------------------- the schema


def test_fields_keep_their_order_and_names_are_unique(contracts: Collection) -> None:
    assert [each.name for each in fields.fields_of(contracts)] == ["Partner", "State", "Pages", "Amount", "Signed", "Paid"]
    with pytest.raises(Refused, match="already"):
        add_field(contracts, " STATE ", "text")
    other = CollectionFactory()
    add_field(other, "State", "text")  # unique within its collection, and its digest tells nothing of another
    digests = {bytes(each.name_digest) for each in Field.objects.all() if each.name == "State"}
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x07b", "File", "file"])
def test_names_that_cannot_be_used(contracts: Collection, name: str) -> None:
    with pytest.raises(Refused):
        add_field(contracts, name, "text")
    with pytest.raises(Refused):
        describing.change_field(field(contracts, "State"), name, filterable=True)
    assert field(contracts, "State")


def test_there_is_a_limit(contracts: Collection) -> None:
    for number in range(fields.MAX_FIELDS - 6):
        add_field(contracts, f"More {number}", "text")
    with pytest.raises(Refused, match="at most 20"):
        add_field(contracts, "One more", "text")


def test_names_and_values_are_stored_encrypted(contract: Document) -> None:
    add_field(contract.collection, MARKER, "text")
    describe(contract, {MARKER: MARKER})
    with connection.cursor() as cursor:
        cursor.execute("SELECT f::text || v::text FROM documents_field f JOIN documents_value v ON v.field_id = f.id")
        (row,) = cursor.fetchall()
    assert MARKER.encode().hex() not in row[0]
    assert MARKER not in row[0]


def test_deleting_a_field_deletes_its_values_alone(contract: Document) -> None:
    describe(contract, {"State": "open", "Pages": "4"})
    state = field(contract.collection, "State")
    assert describing.held(state) == 1
    assert describing.delete_field(state) == 1
    assert values(contract) == {"Pages": "4"}
    assert Facts.objects.get().payload == {str(field(contract.collection, "Pages").pk): 4.0}
    with pytest.raises(Refused, match="not there any more"):
        describing.delete_field(state)


@pytest.mark.django_db(transaction=True)
def test_under_a_legal_hold_no_field_is_deleted(workspace_a: Any) -> None:
    lifecycle.hold(workspace_a, "Court order 12")
    with workspace(workspace_a):
        made = add_field(CollectionFactory(), "State", "keyword")
        with pytest.raises(Refused, match="Court order 12"):
            describing.delete_field(made)
        assert Field.objects.exists()


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("kind", "typed", "stored"),
    [
        ("text", "  Müller\t&  Co ", "Müller & Co"),
        ("keyword", "open", "open"),
        ("integer", "+0042", "42"), ("integer", "-7", "-7"), ("integer", "-0", "0"), ("integer", str(2**53), str(2**53)),
        ("number", "1204.50", "1204.5"), ("number", "-.5", "-0.5"), ("number", "-0.0", "0"), ("number", "7.", "7"),
        ("date", "2026-03-31", "2026-03-31"), ("date", "0001-01-01", "0001-01-01"),
        ("boolean", "TRUE", "yes"), ("boolean", "0", "no"),
        ("date", "  ", ""),
    ],
)  # fmt: skip
def test_what_is_typed_is_stored_in_one_form(kind: str, typed: str, stored: str) -> None:
    assert read_value(kind, typed) == stored


@pytest.mark.parametrize(
    ("kind", "typed", "said"),
    [
        ("text", "x" * 1001, "At most 1,000"), ("text", "a\x00b", "cannot be shown"), ("keyword", "x" * 101, "At most 100"),
        ("integer", "4.5", "not a whole number"), ("integer", "1,204", "not a whole number"),
        ("integer", "٤", "not a whole number"),
        ("integer", str(2**53 + 1), "too large"), ("integer", "9" * 5000, "not a whole number"),
        ("number", "1e5", "not a number"), ("number", "NaN", "not a number"), ("number", "inf", "not a number"),
        ("number", ".", "not a number"), ("number", "1.2345678901234567", "digits"),
        ("date", "31.03.2026", "not a date"), ("date", "2026-02-30", "not a date"), ("date", "20260331", "not a date"),
        ("date", "2026-W13-2", "not a date"), ("boolean", "maybe", "neither yes nor no"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_kind_is_refused_in_words(kind: str, typed: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read_value(kind, typed)


def test_errors_name_every_field_and_nothing_is_stored(contract: Document) -> None:
    describe(contract, {"State": "open"})
    with pytest.raises(Invalid) as refused:
        describe(contract, {"State": "closed", "Pages": "four", "Signed": "soon", "Colour": "red"})
    assert set(refused.value.errors) == {"Pages", "Signed", "Colour"}
    assert "such as 2026-03-31" in refused.value.errors["Signed"]
    assert values(contract) == {"State": "open"}


def test_what_is_not_named_stays_and_nothing_removes(contract: Document) -> None:
    assert describe(contract, {"state": "open", "Pages": "4", "Paid": "yes"}) == 3
    assert describe(contract, {"Pages": "", "Paid": "yes"}) == 1
    assert values(contract) == {"State": "open", "Paid": "yes"}


# ---------------------------------------------------------------- what the search is told


def facts(document: Document) -> Any:
    found = Facts.objects.filter(pk=document.pk).first()
    return found and {Field.objects.get(pk=which).name: value for which, value in found.payload.items()}


def test_the_search_knows_filterable_values_of_documents_that_are_found(contract: Document) -> None:
    queued = DocumentFactory(collection=contract.collection)
    for document in (contract, queued):
        describe(document, {"Partner": "Larkspur", "State": "open", "Amount": "2.50", "Signed": "2026-03-31", "Paid": "no"})
    assert facts(contract) == {"State": "open", "Amount": 2.5, "Signed": 739706, "Paid": "no"}
    assert facts(queued) is None
    describing.change_field(field(contract.collection, "Partner"), "Partner", filterable=True)
    describing.change_field(field(contract.collection, "State"), "Stage", filterable=False)
    assert facts(contract) == {"Partner": "Larkspur", "Amount": 2.5, "Signed": 739706, "Paid": "no"}


def test_the_trash_takes_them_and_restoring_brings_them_back(contract: Document) -> None:
    from django.db import transaction

    from search import indexing

    with transaction.atomic():
        indexing.publish(contract.pk, contract.collection_id)
    describe(contract, {"State": "open"})
    trash.trash([contract.pk], None)
    assert facts(contract) is None
    with pytest.raises(Refused, match="trash"):
        describe(contract, {"State": "closed"})
    trash.restore([contract.pk])
    assert facts(contract) == {"State": "open"}


@pytest.mark.django_db(transaction=True)
def test_erasing_a_document_leaves_nothing_and_the_receipt_counts_it(workspace_a: Any) -> None:
    from tenants.models import Receipt

    with workspace(workspace_a):
        collection = CollectionFactory()
        add_field(collection, "State", "keyword", filterable=True)
        documents = [DocumentFactory(collection=collection, state=Document.State.READY) for _ in range(2)]
        for document in documents:
            describe(document, {"State": "open"})
        erasing.erase([documents[0].pk])
        assert [value.document_id for value in Value.objects.all()] == [documents[1].pk]
        assert [found.pk for found in Facts.objects.all()] == [documents[1].pk]
        erasing.erase_collection(collection)
        assert not Field.objects.exists()
        assert not Value.objects.exists()
        assert not Facts.objects.exists()
    with public_context():
        body = Receipt.objects.order_by("issued_at")[0].document["body"]
    assert body["counts"]["metadata values"] == 1
    assert body["counts"]["filter entries"] == 1
    assert body["verified"]["metadata values"] == 0


# ---------------------------------------------------------------- CSV


def csv(text: str) -> bytes:
    return text.encode()


def test_a_csv_file_describes_documents_by_their_file_or_reference(contract: Document) -> None:
    other = DocumentFactory(collection=contract.collection, file_name="b.txt", reference="archive/7")
    describe(contract, {"Pages": "9"})
    content = '\ufefffile;STATE;Pages;Signed\r\ncontract.pdf;open;;2026-03-31\r\n\r\narchive/7;"say ""hi""";12;\r\n'
    assert describe_by_csv(contract.collection, csv(content)) == 2
    assert values(contract) == {"State": "open", "Pages": "9", "Signed": "2026-03-31"}
    assert values(other) == {"State": 'say "hi"', "Pages": "12"}


def test_every_wrong_line_is_named_and_nothing_is_stored(contract: Document) -> None:
    twin = DocumentFactory(collection=contract.collection, file_name="twin.txt")
    DocumentFactory(collection=contract.collection, file_name="twin.txt")
    trashed = DocumentFactory(collection=contract.collection, file_name="gone.txt")
    trash.trash([trashed.pk], None)
    DocumentFactory(file_name="elsewhere.txt")
    lines = [
        "file,State,Pages,Paid",
        "contract.pdf,open,4,yes",
        "contract.pdf,closed,5,no",
        "twin.txt,open,,",
        "gone.txt,open,,",
        "elsewhere.txt,open,,",
        ",open,,",
        "contract.pdf,open,4,yes,more",
        "unknown.txt,open,four,perhaps",
    ]
    with pytest.raises(BadSidecar) as refused:
        describe_by_csv(contract.collection, csv("\n".join(lines)))
    assert [mistake.partition(":")[0] for mistake in refused.value.mistakes] == [f"Line {n}" for n in range(3, 10)]
    assert not Value.objects.exists()
    lines[2:] = ["b.txt,open,four,perhaps"]
    DocumentFactory(collection=contract.collection, file_name="b.txt")
    with pytest.raises(BadSidecar) as refused:
        describe_by_csv(contract.collection, csv("\n".join(lines)))
    assert refused.value.mistakes[0].startswith("Line 3, Pages: “four” is not a whole number")
    assert refused.value.mistakes[1].startswith("Line 3, Paid: ")
    assert not Value.objects.exists()
    assert twin.values.count() == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"file,State\n", "no line below"),
        (b"State\nopen\n", "no column “file”"),
        (b"file,Colour\na,red\n", "no field “Colour”"),
        (b"file,State,state\na,x,y\n", "2 times"),
        (b"file,State\na,\xff\xfe\n", "not in UTF-8"),
        (b"PK\x03\x04\x00\x00", "zero bytes"),
        (b'file,State\ncontract.pdf,"open\n', "quotes do not match"),
        (b"file,State\n" + b"x" * 200_000, "quotes do not match"),
        (b"file,State\ncontract.pdf," + b"x" * 20_000, "more than 10,000 characters"),
        (b"file\n" + b"contract.pdf\n" * 20_001, "more than 20,000 lines"),
        (b"file" + b",State" * 10_000 + b"\n", "10000 times"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_in_words(contract: Document, content: bytes, said: str) -> None:
    with pytest.raises(BadSidecar) as refused:
        describe_by_csv(contract.collection, content)
    assert said in str(refused.value)
    assert not Value.objects.exists()


# ---------------------------------------------------------------- pages


@pytest.fixture
def place(contract: Document) -> Document:
    """The contract, once the test is outside of its workspace again: the client goes in by itself."""
    return contract


@pytest.fixture
def do(workspace_a: Any) -> Callable[..., Any]:
    def ask(client: Client, method: str, path: str, *args: Any, **options: Any) -> Any:
        with public_context():
            return getattr(client, method)(workspace_a.path + path, *args, **options)

    return ask


def test_fields_are_added_changed_and_deleted_on_their_page(do: Any, client_owner: Client, in_workspace_a: Any) -> None:
    collection = CollectionFactory(name="Invoices")
    page = f"collections/{collection.pk}/fields/"
    assert do(client_owner, "post", page, {"name": "State", "kind": "keyword", "filterable": "on"}).status_code == 302
    answer = do(client_owner, "post", page, {"name": "state", "kind": "date"})
    assert answer.status_code == 422
    assert "has a field named “state” already" in answer.content.decode()
    assert do(client_owner, "post", page, {"name": "Other", "kind": "colour"}).status_code == 422
    made = Field.objects.get()
    assert (made.name, made.kind, made.filterable) == ("State", "keyword", True)
    assert "State" in do(client_owner, "get", page).content.decode()
    do(client_owner, "post", f"{page}{made.pk}/", {"name": "Stage", "kind": "date"})
    changed = Field.objects.get()
    assert (changed.name, changed.kind, changed.filterable) == ("Stage", "keyword", False)
    describe(DocumentFactory(collection=collection), {"Stage": "open"})
    asked = do(client_owner, "get", f"{page}{made.pk}/delete/").content.decode()
    assert "1 document, those in the trash included, has a value in this field" in asked
    do(client_owner, "post", f"{page}{made.pk}/delete/")
    assert not Field.objects.exists()


def test_metadata_is_edited_on_its_page_and_errors_stand_at_the_field(do: Any, client_editor: Client, place: Document) -> None:
    keys = {each.name: f"field-{each.pk}" for each in fields.fields_of(place.collection)}
    form = f"documents/{place.pk}/describe/"
    answer = do(client_editor, "post", form, {keys["State"]: "open", keys["Pages"]: "four"})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert "is not a whole number" in html
    assert 'value="four"' in html
    assert values(place) == {}
    assert do(client_editor, "post", form, {keys["State"]: "open", keys["Pages"]: "4", keys["Paid"]: "yes"}).status_code == 302
    page = do(client_editor, "get", f"documents/{place.pk}/").content.decode()
    assert "<dt>State</dt><dd>open</dd>" in page
    assert "Edit metadata" in page


def test_viewers_read_metadata_and_do_not_edit_it(do: Any, client_viewer: Client, place: Document) -> None:
    describe(place, {"State": "open"})
    page = do(client_viewer, "get", f"documents/{place.pk}/").content.decode()
    assert "<dd>open</dd>" in page
    assert "Edit metadata" not in page


def test_metadata_of_a_restricted_collection_is_for_its_members(do: Any, client_editor: Client, in_workspace_a: Any) -> None:
    board = create_collection("Board", restricted=True)
    made = add_field(board, MARKER, "keyword", filterable=True)
    document = DocumentFactory(collection=board)
    for method, path in (
        ("get", f"collections/{board.pk}/fields/"), ("post", f"collections/{board.pk}/fields/"),
        ("get", f"collections/{board.pk}/fields/{made.pk}/"), ("post", f"collections/{board.pk}/fields/{made.pk}/"),
        ("get", f"collections/{board.pk}/describe/"), ("get", f"documents/{document.pk}/describe/"),
    ):  # fmt: skip
        assert do(client_editor, method, path).status_code == 404
    for path in ("documents/", f"documents/upload/?collection={board.pk}", "collections/"):
        assert MARKER not in do(client_editor, "get", path).content.decode()


def test_a_field_of_another_collection_is_not_found(do: Any, client_owner: Client, contracts: Collection) -> None:
    other = CollectionFactory()
    made = field(contracts, "State")
    assert do(client_owner, "get", f"collections/{other.pk}/fields/{made.pk}/").status_code == 404


def test_a_csv_file_is_uploaded_on_its_page(do: Any, client_editor: Client, place: Document) -> None:
    page = f"collections/{place.collection_id}/describe/"
    send = lambda content: do(client_editor, "post", page, {"file": SimpleUploadedFile("m.csv", content)})  # noqa: E731
    answer = send(b"file,State,Pages\ncontract.pdf,open,four\nmissing.txt,open,4\n")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert "Nothing was changed: 2 mistakes" in html
    assert "Line 2, Pages" in html
    assert "Line 3: no document" in html
    assert values(place) == {}
    assert send(b"file,State,Pages\ncontract.pdf,open,4\n").status_code == 302
    assert values(place) == {"State": "open", "Pages": "4"}
    assert "Choose a CSV file." in do(client_editor, "post", page, {}).content.decode()


def test_metadata_is_given_at_upload(
    do: Any, client_editor: Client, contracts: Collection, listed: Callable[[], list[Path]]
) -> None:
    keys = {each.name: f"field-{each.pk}" for each in fields.fields_of(contracts)}
    shown = do(client_editor, "get", f"documents/upload/?collection={contracts.pk}").content.decode()
    assert keys["State"] in shown
    sent = {"collection": str(contracts.pk), keys["State"]: "open", keys["Signed"]: "soon"}
    files = lambda: [SimpleUploadedFile("a.txt", b"words"), SimpleUploadedFile("b.txt", b"more words")]  # noqa: E731
    json = {"Accept": "application/json"}
    answer = do(client_editor, "post", "documents/upload/", {**sent, "files": files()}, headers=json)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"].startswith("Signed: “soon” is not a date")
    answer = do(client_editor, "post", "documents/upload/", {**sent, "files": files()})
    assert answer.status_code == 422
    html = answer.content.decode()
    assert "Nothing was uploaded" in html
    assert 'value="soon"' in html
    assert not Document.objects.exists()
    assert listed() == []
    do(client_editor, "post", "documents/upload/", {**sent, keys["Signed"]: "2026-03-31", "files": files()})
    documents = list(Document.objects.all())
    assert len(documents) == 2
    assert all(values(each) == {"State": "open", "Signed": "2026-03-31"} for each in documents)


def test_a_csv_file_comes_along_with_the_files_it_describes(
    do: Any, client_editor: Client, contracts: Collection, listed: Callable[[], list[Path]]
) -> None:
    state = f"field-{next(each.pk for each in fields.fields_of(contracts) if each.name == 'State')}"

    def send(content: bytes, **headers: str) -> Any:
        files = [SimpleUploadedFile("a.txt", b"words"), SimpleUploadedFile("Größe.txt", b"more words")]
        sent = {"collection": str(contracts.pk), state: "open", "files": files, "sidecar": SimpleUploadedFile("m.csv", content)}
        return do(client_editor, "post", "documents/upload/", sent, headers=headers)

    assert 'name="sidecar"' in do(client_editor, "get", f"documents/upload/?collection={contracts.pk}").content.decode()
    answer = send(b"file,State,Pages\na.txt,closed,four\na.txt,closed,4\n")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert "Nothing was uploaded: correct the CSV file" in html
    assert "Line 2, Pages: “four” is not a whole number" in html
    assert "Line 3: describes “a.txt” again, as line 2 does." in html
    answer = send(b"x" * 1_000_001, Accept="application/json")
    assert answer.json()["errors"][0]["message"].startswith("In the CSV file: It is larger than 1 MB.")
    assert not Document.objects.exists()
    assert listed() == []
    decomposed = "file,State,Pages\nGro\u0308ße.txt,closed,4\nlater.txt,closed,9\n"
    assert send(decomposed.encode()).status_code == 302
    by_name = {each.file_name: values(each) for each in Document.objects.all()}
    assert by_name == {"a.txt": {"State": "open"}, "Größe.txt": {"State": "closed", "Pages": "4"}}


def test_the_documents_page_leads_to_uploading_with_metadata(do: Any, client_editor: Client, contracts: Collection) -> None:
    html = do(client_editor, "get", "documents/").content.decode()
    assert f"upload/?collection={contracts.pk}" in html


def test_the_log_says_that_and_not_what(contract: Document) -> None:
    from tenants.audit.models import Entry

    describe(contract, {"State": MARKER})
    entries = [(entry.event, entry.details) for entry in Entry.objects.order_by("-number")[:1]]
    assert entries[0][0] == "document.described"
    assert MARKER not in str(entries[0][1])
