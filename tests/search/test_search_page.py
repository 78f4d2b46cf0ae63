"""The search page over HTTP."""

import logging
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test import Client

from documents.models import Document
from search.embeddings import Embedder
from search.models import SharedSearch
from tenants.context import public_context, workspace
from tests.factories import CollectionFactory
from tests.search.conftest import store

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def ask(workspace_a: Any, client_viewer: Client, handbook: dict[str, Document]) -> Any:
    """Posts to the search page of workspace a as a viewer."""

    def post(question: str, **more: Any) -> Any:
        headers = more.pop("headers", HTMX)
        with public_context():
            return client_viewer.post(workspace_a.path, {"q": question, **more}, headers=headers)

    return post


def test_the_page_begins_with_the_search_box(workspace_a: Any, client_viewer: Client):
    answer = client_viewer.get(workspace_a.path)
    assert answer.status_code == 200
    assert 'type="search"' in answer.content.decode()
    assert "no document of this workspace is ready" in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("role", ["viewer", "owner"])
def test_the_number_of_queries(
    person: Any, sign_in: Any, workspace_a: Any, handbook: dict[str, Document], django_assert_num_queries: Any, role: str
):
    with public_context():
        client = sign_in(person(role, workspace_a))
        client.get(workspace_a.path)  # which also notes that somebody was here
        with django_assert_num_queries(6):  # session, person, membership, collections, index, the switcher's workspaces
            client.get(workspace_a.path)
        with django_assert_num_queries(9):  # without the switcher's; vectors, passages, documents and collections, pages
            client.post(workspace_a.path, {"q": "password"}, headers=HTMX)
        with django_assert_num_queries(3):
            client.get(f"{workspace_a.path}presence/")


def test_results_name_document_page_and_passage(ask: Any, handbook: dict[str, Document]):
    answer = ask("a password of twelve characters")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "<html" not in html
    first = html.split("<article")[1]
    assert ">Passwords</a>" in first
    assert "Page 1" in first
    assert "Handbook" in first
    assert "<mark>password</mark>" in first
    assert f"/documents/{handbook['Passwords'].id}/?page=1" in first
    assert "BM25" in first
    assert "cosine" in first


def test_without_javascript_the_whole_page_answers(ask: Any):
    html = ask("password", headers={}).content.decode()
    assert "<html" in html
    assert ">Passwords</a>" in html
    assert 'value="password"' in html


def test_the_question_is_not_in_the_title_the_address_or_the_log(ask: Any, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        html = ask("zebracrossing", headers={}).content.decode()
    title = re.search(r"<title>(.*?)</title>", html, re.S)
    assert title
    assert "zebra" not in title[1]
    assert not re.search(r'(href|action|hx-\w+)="[^"]*zebra', html)
    assert "zebra" not in caplog.text


def test_a_question_in_the_address_is_ignored(workspace_a: Any, client_viewer: Client, handbook: dict[str, Document]):
    with public_context():
        html = client_viewer.get(f"{workspace_a.path}?q=password").content.decode()
    assert "<article" not in html


def test_an_empty_question_says_so(ask: Any):
    answer = ask("   ")
    assert answer.status_code == 422
    assert "Type what you are looking for." in answer.content.decode()


def test_what_was_typed_cannot_become_markup(ask: Any):
    html = ask('<script>alert("x")</script>', headers={}).content.decode()
    assert "<script>alert" not in html


def test_the_filter_offers_collections_and_keeps_to_them(workspace_a: Any, ask: Any):
    other = CollectionFactory(name="Other")
    store(["Bread is baked at night."], title="Bakery", collection=other)
    html = ask("password", collection=str(other.id)).content.decode()
    assert html.count("<article") == 1
    assert "Bakery" in html
    empty = CollectionFactory(name="Empty")
    assert "No ready document of this collection" in ask("password", collection=str(empty.id)).content.decode()
    assert ask("password", collection="not-one").status_code == 422


def test_pages_of_ten(ask: Any):
    collection = CollectionFactory(name="Many")
    for number in range(15):
        store([f"Memo {number} about gardening."], title=f"Memo {number}", collection=collection)
    first, second = ask("gardening memo"), ask("gardening memo", page="2")
    assert first.content.count(b"<article") == 10
    assert "Page 1 of 3" in first.content.decode()
    titles = [set(re.findall(r">(Memo \d+|[A-Z][\w ]+)</a></h2>", answer.content.decode())) for answer in (first, second)]
    assert len(titles[1]) == 10
    assert not titles[0] & titles[1]
    assert ask("gardening", page="99").status_code == 200


def test_a_shared_link_says_nothing_and_opens_the_search(workspace_a: Any, client_viewer: Client, ask: Any):
    with public_context():
        made = client_viewer.post(f"{workspace_a.path}s/", {"q": "zebra password", "collection": ""}, headers=HTMX)
        link = re.search(r'value="(http[^"]+)"', made.content.decode())
        assert link
        assert "zebra" not in link[1]
        opened = client_viewer.get(urlsplit(link[1]).path)
        plain = client_viewer.post(f"{workspace_a.path}s/", {"q": "zebra password"})
    assert ">Passwords</a>" in opened.content.decode()
    assert plain.status_code == 302
    assert SharedSearch.objects.count() == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(t::text, '') FROM search_sharedsearch t")
        assert b"zebra".hex() not in cursor.fetchone()[0]


def test_a_link_of_another_workspace_is_not_found(workspace_b: Any, workspace_a: Any, client_viewer: Client, model: Embedder):
    with workspace(workspace_b):
        foreign = SharedSearch.objects.create(query={"q": "x", "collection": ""})
    there = client_viewer.get(f"{workspace_a.path}s/{foreign.pk}/")
    nowhere = client_viewer.get(f"{workspace_a.path}s/unknown/")
    assert (there.status_code, nowhere.status_code) == (404, 404)


def test_a_stranger_gets_not_found(workspace_a: Any, person: Any, sign_in: Any, model: Embedder):
    stranger = sign_in(person(None))
    assert stranger.get(workspace_a.path).status_code == 404
    assert stranger.post(workspace_a.path, {"q": "password"}).status_code == 404


def test_a_deleted_document_leaves_the_results(workspace_a: Any, ask: Any, handbook: dict[str, Document]):
    from tests.search.conftest import remove

    remove(handbook["Passwords"].id)
    assert ">Passwords</a>" not in ask("password").content.decode()
