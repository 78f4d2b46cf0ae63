"""Phrases and exclusions: they apply before ranking, so that everything that passes can be found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from documents.models import Document
from search import candidates, narrowing, querying, questions
from search.embeddings import Embedder
from search.ranking import Mode
from search.sources import sources
from tests.factories import CollectionFactory
from tests.search.conftest import search, store
from tests.search.paragraphs import PARAGRAPHS

pytestmark = pytest.mark.django_db


@pytest.fixture
def found(handbook: dict[str, Document]) -> Callable[..., set[str]]:
    """Titles of what answers a question, the same by every way."""
    names = {document.id: title for title, document in handbook.items()}

    def ask(question: str) -> set[str]:
        ways = [search(question, exact=exact) for exact in (False, True)]
        first, second = ({names[hit.document_id] for hit in way.hits} for way in ways)
        assert first == second
        return first

    return ask


def test_a_phrase_stands_word_for_word(found: Callable[..., set[str]]):
    assert found('"four weeks of notice"') == {"Notice periods"}
    assert found('"Four WEEKS"') == {"Notice periods"}
    assert found('"four week"') == set()  # not stemmed
    assert found('"weeks four"') == set()
    assert found('"eleven two"') == set()
    assert found('"past eleven and two vegetarian dishes"') == {"Canteen"}


def test_several_phrases_and_free_words(found: Callable[..., set[str]]):
    assert found('money "three years" "of a child"') == {"Parental leave"}
    assert found('"three years" "four weeks"') == set()


def test_a_phrase_of_function_words_is_read_for(found: Callable[..., set[str]]):
    assert found('"to the end of"') == {"Notice periods"}
    assert found('"and never"') == {"Passwords"}
    assert found('"it at with"') == set()


def test_an_excluded_word_is_stemmed(found: Callable[..., set[str]], handbook: dict[str, Document]):
    assert found("where -passwords") == set(handbook) - {"Passwords"}
    assert found("where -employee -Printers -unheard") == set(handbook) - {"Notice periods", "Printer"}


def test_an_excluded_phrase_is_word_for_word(found: Callable[..., set[str]], handbook: dict[str, Document]):
    assert found('leave -"four weeks"') == set(handbook) - {"Notice periods"}
    assert found('leave -"four week"') == set(handbook)
    assert found("leave -car-park") == set(handbook) - {"Fire drill"}
    assert found("leave -until") == set(handbook)


def test_what_is_excluded_is_not_what_is_looked_for(handbook: dict[str, Document]):
    assert [hit.keyword_rank for hit in search("zebra -password").hits] == [0] * (len(handbook) - 1)
    with_it, without = search("lunch"), search('lunch -"zebra crossing"')
    assert [hit.document_id for hit in with_it.hits] == [hit.document_id for hit in without.hits]
    assert [hit.score for hit in without.hits] == pytest.approx([hit.score for hit in with_it.hits], abs=1e-5)


def test_exclusions_alone_find_nothing(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(querying, "_embedded", None)
    assert search("-password").hits == []


@pytest.mark.usefixtures("in_workspace_a")
def test_far_passages_with_the_phrase_are_all_found(crowd: Callable[..., list[Document]], model: Embedder):
    """None of them is among the nearest the vector index gives, nor among the best by word."""
    crowd(1000, each=10)
    far = -model.embed(["filler 0 1"])
    ours = [store(["Small print: the quick settlement clause."], title=f"Contract {n}", vectors=far) for n in range(120)]
    for options in ({}, {"mode": Mode.MEANING}, {"mode": Mode.WORDS}, {"exact": True}):
        hits = search('filler 0 1 "quick settlement"', **options).hits
        assert {hit.document_id for hit in hits} <= {document.id for document in ours}
        assert len(hits) == 100, options


@pytest.mark.usefixtures("in_workspace_a")
@pytest.mark.parametrize("scan_at_most", [20_000, 100])
def test_what_is_left_when_the_nearest_are_excluded_is_found(
    crowd: Callable[..., list[Document]], model: Embedder, monkeypatch: pytest.MonkeyPatch, scan_at_most: int
):
    monkeypatch.setattr(candidates, "SCAN_AT_MOST", scan_at_most)
    monkeypatch.setattr(candidates, "SCAN_BELOW", 100)
    crowd(500, each=5)
    near = np.repeat(model.embed(["stars"]), 500, axis=0)
    store(["telescope"] * 500, vectors=near)
    results = search("stars -telescope")
    assert len(results.hits) > 50
    assert results.searched == 1000


def test_a_filter_and_a_phrase_together(handbook: dict[str, Document]):
    other = CollectionFactory(name="Other")
    mine = store(["Four weeks are a month."], title="Calendar", collection=other)
    assert [hit.document_id for hit in search('"four weeks"', collections=frozenset({other.id})).hits] == [mine.id]


def test_reading_ends_when_enough_documents_passed(in_workspace_a: Any, model: Embedder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(narrowing, "BLOCK", 2)
    monkeypatch.setattr(narrowing, "ENOUGH", 3)
    for number in range(9):
        store([f"alpha beta gamma {number}"], title=str(number))
    with CaptureQueriesContext(connection) as captured:
        results = search('"alpha beta"')
    assert (len(results.hits), results.unread) == (4, 5)
    assert sum("text FROM search_chunk" in query["sql"] for query in captured) == 2


def test_words_are_masked_without_reading_a_text(handbook: dict[str, Document]):
    with CaptureQueriesContext(connection) as captured:
        search("where -password")
    assert not any("text FROM search_chunk" in query["sql"] for query in captured)
    assert "password" not in str([query["sql"] for query in captured])


def test_a_question_of_the_evaluation_may_hold_operators_too(handbook: dict[str, Document]):
    everything = sources().everything()
    first, second, third = querying.search_exactly(["-5", '"four weeks"', "leave -parents"], collections=everything)
    assert first.hits == []
    assert [hit.document_id for hit in second.hits] == [handbook["Notice periods"].id]
    assert len(third.hits) == len(handbook) - 1


def test_reading_is_bounded(in_workspace_a: Any, model: Embedder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(narrowing, "BLOCK", 2)
    monkeypatch.setattr(narrowing, "AT_MOST", 4)
    store([f"beta alpha {number}" for number in range(9)], title="Backwards")
    assert (search('"alpha beta"').hits, search('"alpha beta"').unread) == ([], 5)
    clean = search('alpha -"alpha beta"')
    assert (clean.hits[0].more, clean.unread) == (3, 5)


TEXT = st.text(alphabet=st.sampled_from(list("aAbß ._-\u0345ιİ\n")) | st.characters(), max_size=30)


@given(TEXT, TEXT)
def test_the_rough_look_overlooks_no_phrase(before: str, after: str):
    words = questions.folded(before + " " + after)
    for length in (1, 2, 3):
        for start in range(len(words) - length + 1):
            phrase = words[start : start + length]
            assert narrowing._roughly(phrase).search((before + " " + after).casefold())


# ---------------------------------------------------------------- several languages


@pytest.fixture
def papers(in_workspace_a: Any, model: Embedder) -> Callable[[str], set[str]]:
    """A document in each of four languages, and one in English about dice; asked by word, in which languages one is found."""
    told = {language: PARAGRAPHS[language] for language in ("en", "de", "fr", "es")}
    told["dice"] = "The die is cast by the player, and it is made of wood. Dice of ivory are not to be used by anybody."
    collection = CollectionFactory(name="Boilers")
    names = {store([text], title=name, collection=collection).id: name for name, text in told.items()}

    def ask(question: str, mode: Mode = Mode.WORDS) -> set[str]:
        return {names[hit.document_id] for hit in search(question, mode=mode).hits}

    return ask


def test_words_are_found_in_whatever_language_they_stand(papers: Callable[..., set[str]]):
    assert papers("Reparatur") == {"de"}
    assert papers("réparation") == papers("reparation") == {"fr"}
    assert papers("reparaciones") == {"es"}
    assert papers("tenant boilers") == {"en"}
    assert papers("Haus bâtiment edificios building") == {"de", "fr", "es", "en"}
    assert papers("die") == {"dice"}


def test_phrases_stand_in_a_language_word_for_word(papers: Callable[..., set[str]]):
    assert papers('"die Mieter hatten"') == {"de"}  # as it is typed, function words and all
    assert papers('"Mieter" "die Mieter"') == {"de"}
    assert papers('"the die is"') == {"dice"}
    assert papers('"die die"', Mode.MEANING) == set()
    assert papers('"de los ruidos"') == {"es"}
    assert papers('"Heizkessel des Gebaudes"') == set()  # accents and all


def test_exclusions_know_each_language(papers: Callable[..., set[str]]):
    everyone = {"en", "de", "fr", "es", "dice"}
    assert papers("boilers -Heizkesseln", Mode.MEANING) == everyone - {"de"}
    assert papers("boilers -propriétaires", Mode.MEANING) == everyone - {"fr"}
    assert papers("boilers -die", Mode.MEANING) == everyone - {"dice", "de"}  # a word of the one, a function word of the other
    assert papers("boilers -de", Mode.MEANING) == everyone - {"fr", "es"}
