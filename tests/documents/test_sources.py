"""What search is told about documents."""

from uuid import uuid4

import pytest
from django.utils import timezone

from documents.models import Document, Page
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


def test_located(django_assert_num_queries: object) -> None:
    made, trashed = DocumentFactory(title="A title"), DocumentFactory(trashed_at=timezone.now())
    for number in (2, 3):
        Page.objects.create(id=Page.identity(made.id, number), document=made, number=number, label=f"Slide {number}", text="x")
    places = [(made.id, 2), (made.id, 3), (made.id, 9), (trashed.id, 1), (uuid4(), 1)]
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = sources().located(places, [made.collection_id, trashed.collection_id])
    assert {place: (source.title, label) for place, (source, label) in found.items()} == {
        (made.id, 2): ("A title", "Slide 2"), (made.id, 3): ("A title", "Slide 3"), (made.id, 9): ("A title", "")
    }  # fmt: skip
    assert sources().located(places, [trashed.collection_id]) == {}


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
