"""What search is told about documents."""

from uuid import uuid4

import pytest
from django.utils import timezone

from documents.models import Document, Page
from search.indexing import passage_id
from search.models import Chunk
from search.sources import sources
from tenants.models import Membership
from tests.factories import CollectionFactory, DocumentFactory

pytestmark = pytest.mark.usefixtures("in_workspace_a")


def test_describe(django_assert_num_queries: object) -> None:
    made = DocumentFactory(title="A title", format="pdf", collection=CollectionFactory(name="Letters"))
    other = DocumentFactory()
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = sources().describe([made.id, other.id, uuid4()], [made.collection_id, other.collection_id])
    assert set(found) == {made.id, other.id}
    source = found[made.id]
    assert (source.title, source.format, source.collection_name) == ("A title", "pdf", "Letters")
    assert source.url.endswith(f"/documents/{made.id}/")


def passage(document: Document, page: int) -> Chunk:
    place = {"document_id": document.id, "sequence": page, "page": page, "start": 0, "end": 6, "tokens": 2}
    return Chunk.objects.create(id=passage_id(document.id, page), text=f"Text {page}", **place)


def test_quotes(django_assert_num_queries: object) -> None:
    made, trashed = DocumentFactory(title="A title"), DocumentFactory(trashed_at=timezone.now())
    for number in (2, 3):
        Page.objects.create(id=Page.identity(made.id, number), document=made, number=number, label=f"Slide {number}", text="x")
    two, three, nowhere = (passage(made, page) for page in (2, 3, 9))
    gone = passage(trashed, 1)
    passages = [each.id for each in (two, three, nowhere, gone)] + [uuid4()]
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = sources().quotes(passages, [made.collection_id, trashed.collection_id])
    assert {pk: (quote.source.title, quote.page, quote.label, quote.text) for pk, quote in found.items()} == {
        two.id: ("A title", 2, "Slide 2", "Text 2"),
        three.id: ("A title", 3, "Slide 3", "Text 3"),
        nowhere.id: ("A title", 9, "", "Text 9"),
    }
    assert sources().quotes(passages, [trashed.collection_id]) == {}


def test_collections_by_name() -> None:
    for name in ("b", "C", "a"):
        CollectionFactory(name=name)
    assert [collection.name for collection in sources().collections(Membership(role="owner"))] == ["a", "b", "C"]


def test_references_leave_out_what_is_ambiguous_or_not_ready() -> None:
    ready = Document.State.READY
    first = DocumentFactory(state=ready, file_name="one.txt", title="Same", reference="d1")
    second = DocumentFactory(state=ready, file_name="two.txt", title="Same", reference="d2")
    DocumentFactory(file_name="waiting.txt", reference="d3")
    older = DocumentFactory(
        state=ready, file_name="one.txt", collection=first.collection, series=first.id, version=2, is_current=False
    )
    assert sources().references(sources().everything()) == {
        str(first.id): first.id,
        str(older.id): first.id,
        "one.txt": first.id,
        "d1": first.id,
        str(second.id): second.id,
        "two.txt": second.id,
        "d2": second.id,
    }
