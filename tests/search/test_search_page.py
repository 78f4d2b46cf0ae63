"""The search page over HTTP."""

import logging
import re
from html import unescape
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.test import Client

from documents.models import Document
from documents.receiving import create_collection
from search import own_searches, views
from search.embeddings import Embedder
from search.indexing import passage_id
from search.models import SharedSearch
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.context import public_context, workspace
from tenants.models import Membership
from tests.factories import CollectionFactory
from tests.search.conftest import store
from tests.search.paragraphs import PARAGRAPHS

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
    assert "no document that you may see is ready" in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("role", ["viewer", "owner"])
def test_the_number_of_queries(
    person: Any, sign_in: Any, workspace_a: Any, handbook: dict[str, Document], django_assert_num_queries: Any, role: str
):
    with public_context():
        client = sign_in(person(role, workspace_a))
        client.get(workspace_a.path)  # which also notes that somebody was here
        with django_assert_num_queries(7):  # session, person, membership, collections, index, own searches, the switcher's
            client.get(workspace_a.path)
        client.post(workspace_a.path, {"q": "passwords"}, headers=HTMX)  # the first makes the row of the person's own searches
        # without the switcher's and own searches; vectors, passages with documents, collections and pages; the history, read
        # and written; the log's head and entry
        with django_assert_num_queries(11):
            client.post(workspace_a.path, {"q": "password"}, headers=HTMX)
        with django_assert_num_queries(3):
            client.get(f"{workspace_a.path}presence/")


def test_the_number_of_queries_while_somebody_types(
    workspace_a: Any, client_viewer: Client, handbook: dict[str, Document], django_assert_num_queries: Any
):
    with public_context():
        for question in ("pas", "pass"):  # the first is written down
            client_viewer.post(f"{workspace_a.path}instant/", {"q": question}, headers=HTMX)
        # session, person, membership, collections, index; vectors, passages with documents, collections and pages
        with django_assert_num_queries(7):
            client_viewer.post(f"{workspace_a.path}instant/", {"q": "password"}, headers=HTMX)


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


@pytest.mark.parametrize("question", ["-password", '-"of twelve" -password', '""'])
def test_exclusions_alone_say_what_is_missing(workspace_a: Any, client_viewer: Client, ask: Any, question: str):
    answer = ask(question, headers={})
    assert answer.status_code == 422
    assert "Say what to look for" in answer.content.decode()
    with public_context():
        assert client_viewer.post(f"{workspace_a.path}s/", {"q": question}, headers=HTMX).status_code == 422
    assert not SharedSearch.objects.exists()


def test_phrases_and_exclusions(ask: Any):
    assert ask('"twelve characters"').content.decode().count("<article") == 1
    assert ">Passwords</a>" not in ask("a password of twelve characters -colleagues").content.decode()
    assert "Nothing was found" in ask('"characters twelve"').content.decode()


def test_an_explanation_names_the_words_and_the_phrases_that_stand_there(ask: Any):
    html = ask('"of at least" passwords colleagues "twelve characters" <b> -zebra').content.decode()
    assert "<dt>Words here</dt><dd>password, least, twelve, characters, colleague</dd>" in html
    assert "<dt>Word for word</dt><dd>“of at least”, “twelve characters”</dd>" in html
    assert "<mark>of at least</mark> <mark>twelve characters</mark>" in html


def test_each_result_is_explained_in_its_own_language(workspace_a: Any, ask: Any):
    for language in ("de", "fr"):
        store([PARAGRAPHS[language]], title=language, collection=CollectionFactory())
    html = ask("Reparatur am Haus; réparation, bâtiment", mode="words").content.decode()
    assert "<dt>Words here</dt><dd>Reparaturen, Häuser</dd>" in html
    assert "<mark>réparations</mark> des <mark>bâtiments</mark>" in html


def test_a_result_says_how_many_more_passages_match(workspace_a: Any, ask: Any):
    store(["Gardening begins in March.", "Gardening ends in May.", "Gardens."], title="Memo", collection=CollectionFactory())
    html = ask("gardening").content.decode()
    assert html.count("more passage") == 1
    assert "2 more passages of this document are among the candidates." in html


def test_documents_that_say_the_same_are_one_result(workspace_a: Any, ask: Any):
    texts = ["Gardening begins in March.", "gardening  begins\nin MARCH.", "Gardening begins in March."]
    for number, text in enumerate(texts):
        store([text], title=f"Memo {number}", collection=CollectionFactory())
    store(["Gardening begins in April."], title="Memo 3", collection=CollectionFactory())
    html = ask("gardening in March", mode="words").content.decode()
    assert html.count("<article") == 2
    assert "of 2 results" in html
    assert "Same passage in 2 more documents" in html
    assert all(html.count(f">Memo {number}</a>") == 1 for number in range(4))


def test_what_is_folded_counts_once_on_every_page(workspace_a: Any, ask: Any):
    collection = CollectionFactory()
    for number in range(12):
        store(["Gardening begins in March."], title=f"Copy {number}", collection=collection)
    for number in range(14):
        store([f"Gardening {'and gardening ' * number}in plot {number}."], title=f"Memo {number}", collection=collection)
    pages = [ask("gardening", mode="words", page=page).content.decode() for page in ("1", "2", "99")]
    assert [html.count("<article") for html in pages] == [10, 5, 5]
    assert all("of 15 results" in html for html in pages)
    assert sum("Same passage in 11 more documents" in html for html in pages[:2]) == 1
    second, last = (re.findall(r">([\w ]+)</a></h2>", html) for html in pages[1:])
    assert second == last


def test_what_ranks_is_chosen_and_kept_from_page_to_page(ask: Any):
    whole = ask("password", headers={}).content.decode()
    assert '<option value="hybrid" selected>' in ask("password", mode="hybrid", headers={}).content.decode()
    assert "60 % meaning and 40 % words" in whole
    by_words = ask("password", mode="words").content.decode()
    assert by_words.count("<article") == 1
    assert "not compared" in by_words
    assert 'name="mode" value="words"' in by_words
    assert "meaning alone" in ask("password", mode="meaning").content.decode()
    assert ask("password", mode="magic").status_code == 422


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


def test_a_shared_search_keeps_what_ranks(workspace_a: Any, client_viewer: Client, ask: Any):
    with public_context():
        made = client_viewer.post(f"{workspace_a.path}s/", {"q": "password", "mode": "words"})
        opened = client_viewer.get(made["Location"]).content.decode()
        with workspace(workspace_a):  # one made before there was a choice
            before = SharedSearch.objects.create(query={"q": "password", "collection": ""})
        older = client_viewer.get(f"{workspace_a.path}s/{before.pk}/").content.decode()
    assert opened.count("<article") == 1
    assert '<option value="words" selected>' in opened
    assert older.count("<article") > 1


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


# ---------------------------------------------------------------- while somebody types


@pytest.fixture
def type_in(workspace_a: Any, client_viewer: Client, handbook: dict[str, Document]) -> Any:
    """What the page sends when typing rests for a moment."""

    def post(question: str, path: str = "instant/", **more: str) -> Any:
        with public_context():
            return client_viewer.post(workspace_a.path + path, {"q": question, **more}, headers=HTMX)

    return post


def searched() -> list[dict[str, Any]]:
    return [entry.details["about"] for entry in Entry.objects.filter(event=Event.SEARCHED).order_by("number")]


def test_typing_finds_and_is_one_entry_in_the_log_and_none_in_the_history(type_in: Any, viewer: Any):
    for question in ("pa", "pass", "password"):
        html = type_in(question).content.decode()
        assert "<article" in html
        assert "<html" not in html
    assert ">Passwords</a>" in html
    assert searched() == [{"while_typing": True, "collection": None}]
    assert own_searches.of(Membership.objects.get(user=viewer)).past == []


def test_where_somebody_stops_is_a_search(type_in: Any, viewer: Any):
    type_in("password")
    answer = type_in("password", "settled/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert searched()[1:] == [{"results": 8, "collection": None}]
    (past,) = own_searches.of(Membership.objects.get(user=viewer)).past
    assert past.asked["q"] == "password"
    assert type_in("   ", "settled/").status_code == 204
    assert len(searched()) == 2


def test_typing_shows_nothing_that_cannot_be_written_down(type_in: Any, monkeypatch: pytest.MonkeyPatch):
    def locked(*about: Any, **more: Any) -> None:
        raise OperationalError("the head is locked")

    with monkeypatch.context() as patched:
        patched.setattr(views, "record", locked)
        for _ in range(2):
            with pytest.raises(OperationalError):
                type_in("password")
    assert "<article" in type_in("password").content.decode()
    assert searched() == [{"while_typing": True, "collection": None}]


def test_every_page_of_results_is_in_the_log_and_the_search_in_the_history_once(
    ask: Any, viewer: Any, in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(views, "PAGE_SIZE", 5)
    for page in ("2", "", "1", "2"):
        assert "<article" in ask("password", page=page).content.decode()
    assert [about.get("page", 1) for about in searched()] == [2, 1, 1, 2]
    assert {about["results"] for about in searched()} == {8}
    assert len(own_searches.of(Membership.objects.get(user=viewer)).past) == 1


def test_typing_has_a_limit_of_its_own(type_in: Any, ask: Any, settings: LazySettings):
    settings.RATE_INSTANT, settings.RATE_SEARCH = (2, 10**9), (1, 10**9)
    assert [type_in("password").status_code for _ in range(3)] == [200, 200, 429]
    assert ask("password").status_code == 200
    assert type_in("password", "settled/").status_code == 429


@pytest.mark.parametrize("question", ["", " ", "p", " p "])
def test_nothing_is_looked_for_by_one_letter(type_in: Any, question: str):
    html = type_in(question).content.decode()
    assert "8 passages can be found" in html
    assert "Your last searches" in html
    assert not searched()


@pytest.mark.parametrize("question", ["-password", '""', "x" * 2001])
def test_half_a_question_is_no_error_while_it_is_typed(type_in: Any, question: str):
    answer = type_in(question)
    assert answer.status_code == 200
    assert "alert" not in answer.content.decode()
    assert re.search("Say what to look for|at most 2,000 characters", answer.content.decode())
    assert not searched()


def test_typing_keeps_to_the_filter_and_what_ranks(type_in: Any):
    other = CollectionFactory(name="Other")
    store(["Bread is baked at night."], title="Bakery", collection=other)
    html = type_in("password", collection=str(other.id), mode="meaning").content.decode()
    assert html.count("<article") == 1
    assert 'name="mode" value="meaning"' in html
    assert f'name="collection" value="{other.id}"' in html
    assert type_in("password", collection=str(UUID(int=1))).status_code == 200


# ---------------------------------------------------------------- citations


def test_a_result_can_be_cited(ask: Any, handbook: dict[str, Document]):
    html = ask("a password of twelve characters").content.decode()
    passage = passage_id(handbook["Passwords"].id, 0)
    cited = re.search(rf'id="citation-{passage}">([^<]+)<', html)
    assert cited
    link = f"http://testserver/w/alpha/documents/{handbook['Passwords'].id}/?page=1&amp;passage={passage}#passage-{passage}"
    assert cited[1] == f"Passwords, Page 1, Handbook (Alpha), {link}"
    assert f'data-copy="#citation-{passage}"' in html


# ---------------------------------------------------------------- nothing found


def ways(answer: Any) -> list[tuple[str, dict[str, str]]]:
    """What the buttons say, and what they would ask."""
    found = []
    for form in answer.content.decode().split('<form method="post" action="/w/alpha/">')[1:]:
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form.split("</form>")[0]))
        fields.pop("csrfmiddlewaretoken")
        button = re.search(r"<button[^>]*>([^<]+)<", form)
        assert button
        found.append((unescape(button[1]), {name: unescape(value) for name, value in fields.items()}))
    return found


def test_words_that_occur_nowhere_are_named(ask: Any):
    said = ask("the zebra password xylophones", mode="words", collection="").content.decode()
    assert "occurs in no document" not in said  # something was found
    said = ask("the zebra and the xylophones", mode="words").content.decode()
    assert "“zebra” and “xylophones” occur in no document that you may see." in said


def test_what_kept_everything_out_can_be_left_out(ask: Any):
    answer = ask('"characters twelve" password')
    assert ways(answer) == [
        (
            "Search without the quotes around “characters twelve”",
            {"q": "characters twelve password", "collection": "", "mode": "hybrid"},
        )
    ]
    (_, again) = ways(answer)[0]
    assert ">Passwords</a>" in ask(again.pop("q"), **again).content.decode()
    only = ask("zebra", mode="words")
    assert ways(only) == [("Search by meaning only", {"q": "zebra", "collection": "", "mode": "meaning"})]
    excluded = ask('"twelve characters" -colleague')
    assert [words for words, _ in ways(excluded)] == [
        "Search without the quotes around “twelve characters”",
        "Search without leaving out “colleague”",
    ]
    assert [words for words, _ in ways(ask('"characters twelve" "bake bread"'))] == ["Search without quotes and minus signs"]


def test_an_empty_collection_leads_to_all(ask: Any):
    empty = CollectionFactory(name="Empty")
    answer = ask("password", collection=str(empty.id))
    assert ways(answer) == [("Search all collections", {"q": "password", "collection": "", "mode": "hybrid"})]
    answer = ask('"password zebra"', collection=str(empty.id), mode="words")
    assert [words for words, _ in ways(answer)] == ["Search all collections for these words, by meaning only"]


def test_the_help_says_nothing_of_what_is_hidden(workspace_a: Any, ask: Any):
    """A word, a phrase and a document of a restricted collection, as if there were none."""
    hidden = create_collection("Board papers", restricted=True)
    store(["The merger with Larkspur is announced."], title="Merger plan", collection=hidden)
    said = ask("Larkspur", mode="words").content.decode()
    assert "“larkspur” occurs in no document that you may see." in said
    empty = CollectionFactory(name="Empty")
    answer = ask('"merger with Larkspur"', collection=str(empty.id))
    assert [words for words, _ in ways(answer)] == ["Search all collections for these words, by meaning only"]
    assert ways(ask('"merger with Larkspur"', mode="words")) == [
        ("Search all collections for these words, by meaning only",
         {"q": "merger with Larkspur", "collection": "", "mode": "meaning"})
    ]  # fmt: skip
