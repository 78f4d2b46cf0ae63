"""What is like a passage: found by its own vector and its telling words, among what the member may see."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from documents.models import CollectionMember, Document
from documents.receiving import create_collection
from search import querying
from search.embeddings import Embedder
from search.indexing import passage_id
from search.querying import PassageNotFound
from search.sources import sources
from tenants.context import public_context, workspace
from tenants.models import Membership
from tests.factories import CollectionFactory
from tests.search.conftest import remove, store

pytestmark = pytest.mark.django_db
SAID = "Staff who quit give four weeks of notice; their contract ends with the month."


@pytest.fixture
def show(workspace_a: Any, client_viewer: Client) -> Callable[..., Any]:
    """The page of what is like a passage, as a viewer of workspace a sees it."""

    def get(chunk: Any, **more: Any) -> Any:
        with public_context():
            return client_viewer.get(f"{workspace_a.path}like/{chunk}/", more)

    return get


def test_the_closest_other_passage_comes_first_and_itself_not(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    mine = store([SAID, "The printer is in the cellar."], title="Leaving")
    monkeypatch.setattr(querying, "_embedded", None)  # the stored vector is the question
    alike = querying.like(passage_id(mine.id, 0), collections=sources().everything())
    assert alike.results.hits[0].document_id == handbook["Notice periods"].id
    assert (mine.id, 0) not in [(hit.document_id, hit.sequence) for hit in alike.results.hits]
    assert (mine.id, 1) in [(hit.document_id, hit.sequence) for hit in alike.results.hits]


def test_its_telling_words_are_of_its_language(in_workspace_a: Any, model: Embedder):
    mine = store(["Die Heizkessel wurden geprüft, und die Reparaturen sind von den Mietern zu dulden."], title="Bericht")
    other = store(["Der Mieter hat die Reparatur nach dem Vertrag nicht zu bezahlen."], title="Vertrag")
    about = querying.like(passage_id(mine.id, 0), collections=sources().everything())
    assert set(about.words) == {"Heizkessel", "geprüft", "Reparaturen", "Mietern", "dulden"}
    (hit,) = about.results.hits
    assert (hit.document_id, hit.language) == (other.id, "de")
    assert hit.keyword > 0


def test_its_telling_words_are_rare_here_and_frequent_in_it(in_workspace_a: Any, model: Embedder):
    store([f"common common words {number}" for number in range(20)], title="Many")
    mine = store(["The common words of a Walrus: walruses, tusks. " + " ".join(f"w{n}" for n in range(30))], title="Walrus")
    words = querying.like(passage_id(mine.id, 0), collections=sources().everything()).words
    assert len(words) == 12
    assert words[:2] == ("Walrus", "tusks")
    assert "common" not in words


def test_through_the_vector_index_too(crowd: Callable[..., list[Document]]):
    documents = crowd(1000, each=10)
    results = querying.like(passage_id(documents[3].id, 4), collections=sources().everything()).results
    assert results.way == "index"
    assert max(hit.dense for hit in results.hits) > 0.3


@pytest.mark.parametrize("case", ["unknown", "removed", "unpublished", "other collection", "other workspace"])
def test_what_cannot_be_found_is_like_nothing(workspace_b: Any, handbook: dict[str, Document], case: str):
    collections = sources().everything()
    asked = handbook["Canteen"].id
    if case == "unknown":
        asked = uuid4()
    elif case == "removed":
        remove(asked)
    elif case == "unpublished":
        asked = store(["Not yet."], published=False).id
    elif case == "other collection":
        collections = frozenset({CollectionFactory().id})
    else:
        with workspace(workspace_b):
            asked = store(["Of others."]).id
    with pytest.raises(PassageNotFound):
        querying.like(passage_id(asked, 0), collections=collections)


def test_a_passage_alone_is_like_nothing(show: Callable[..., Any], in_workspace_a: Any, model: Embedder):
    mine = store(["Alone."], title="Only one")
    answer = show(passage_id(mine.id, 0))
    assert answer.status_code == 200
    assert "There is no other passage" in answer.content.decode()


def test_the_page_says_what_it_is_about(show: Callable[..., Any], handbook: dict[str, Document]):
    mine = store([SAID], title="<Leaving>")
    html = show(passage_id(mine.id, 0)).content.decode()
    assert f"/documents/{mine.id}/?page=1&amp;passage={passage_id(mine.id, 0)}" in html
    assert "&lt;Leaving&gt;, Page 1</a></h2>" in html
    assert ">Notice periods</a>" in html.split("<article")[1]
    assert "<mark>contract</mark>" in html
    assert "<title>" in html
    assert "Leaving" not in html.partition("</title>")[0]
    assert "Share this search" not in html


def test_its_pages_are_links(show: Callable[..., Any], handbook: dict[str, Document]):
    collection = CollectionFactory(name="Many")
    for number in range(15):
        store([f"Memo {number} about gardening."], title=f"Memo {number}", collection=collection)
    asked = passage_id(handbook["Canteen"].id, 0)
    assert 'href="?page=2"' in show(asked).content.decode()
    assert "Page 3 of 3" in show(asked, page="99").content.decode()
    for odd in ("0", "-1", "x", "²", "9" * 50):
        assert show(asked, page=odd).status_code == 200


def test_a_result_and_a_chosen_passage_lead_there(workspace_a: Any, client_viewer: Client, handbook: dict[str, Document]):
    passage = passage_id(handbook["Passwords"].id, 0)
    with public_context():
        results = client_viewer.post(workspace_a.path, {"q": "password"}).content.decode()
        page = client_viewer.get(f"{workspace_a.path}documents/{handbook['Passwords'].id}/?passage={passage}").content.decode()
        plain = client_viewer.get(f"{workspace_a.path}documents/{handbook['Passwords'].id}/").content.decode()
    for html in (results, page):
        assert f'href="{workspace_a.path}like/{passage}/"' in html
    assert "More like this" not in plain


def test_what_one_may_not_see_is_not_found_and_not_among_the_results(
    workspace_a: Any, client_viewer: Client, handbook: dict[str, Document], show: Callable[..., Any]
):
    board = create_collection("Board papers", restricted=True)
    secret = store([SAID], title="Redundancies", collection=board)
    assert show(passage_id(secret.id, 0)).status_code == 404
    html = show(passage_id(handbook["Notice periods"].id, 0)).content.decode()
    assert "Redundancies" not in html
    viewer = Membership.objects.get(role="viewer")
    CollectionMember.objects.create(collection=board, membership_id=viewer.pk)
    assert show(passage_id(secret.id, 0)).status_code == 200
    assert "Redundancies" in show(passage_id(handbook["Notice periods"].id, 0)).content.decode()
