"""Words in memory: tokens, stems, postings and BM25, against a plain computation."""

import math
from collections import Counter
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import keywords
from search.keywords import K1, B, Entry, TermIndex, best, collect, term, terms

COLLECTION = uuid4()
VOCABULARY = ["pump", "valve", "pressure", "engine", "wing", "Flügel", "öl", "42", "x1", "contracts"]
texts = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
documents = st.lists(st.lists(texts, min_size=1, max_size=4), max_size=8)


def entry(passages: list[str], document: UUID | None = None, collection: UUID = COLLECTION, generation: int = 1) -> Entry:
    return Entry(document or uuid4(), collection, generation, collect(passages))


def plain_bm25(passages: list[str], question: str) -> list[float]:
    """The formula, written out."""
    bags = [Counter(terms(passage)) for passage in passages]
    average = sum(sum(bag.values()) for bag in bags) / len(bags)
    scores = [0.0] * len(bags)
    for word, repeats in Counter(terms(question)).items():
        frequency = sum(1 for bag in bags if word in bag)
        idf = math.log1p((len(bags) - frequency + 0.5) / (frequency + 0.5))
        for i, bag in enumerate(bags):
            tf = bag[word]
            norm = K1 * (1 - B + B * sum(bag.values()) / (average or 1))
            if tf:
                scores[i] += repeats * idf * tf * (K1 + 1) / (tf + norm)
    return scores


def test_stems_join_forms_of_a_word():
    assert term("Contracts") == term("contract") == term("CONTRACTING")
    assert term("contract") != term("contrast")


def test_words_of_any_script_are_kept_and_function_words_are_not():
    assert [keywords.stem(word) for word in ("Öl", "ÖL")] == ["öl", "öl"]
    assert len(terms("Der Flügel über дом, 東京 and 42")) == 6
    assert terms("the of and is") == []


@given(documents, texts)
def test_scores_are_bm25(passages: list[list[str]], question: str):
    index = TermIndex().updated([entry(each) for each in passages])
    flat = [text for each in passages for text in each]
    expected = plain_bm25(flat, question) if flat else []
    np.testing.assert_allclose(index.scores(terms(question)), expected, rtol=1e-4, atol=1e-5)


@given(documents, documents, st.data())
def test_updating_equals_loading_anew(first: list[list[str]], second: list[list[str]], data: st.DataObject):
    old = [entry(each) for each in first]
    index = TermIndex().updated(old)
    gone = set(data.draw(st.lists(st.sampled_from(old), unique=True))) if old else set()
    new = [entry(each, generation=2) for each in second]
    for one in new:  # one at a time, so that segments pile up and merge
        index = index.updated([one])
    index = index.updated(removed=[each.document_id for each in gone])
    kept = [each for each in (*old, *new) if each not in gone]
    fresh = TermIndex().updated(kept)
    assert index.chunks == fresh.chunks
    assert index.generations() == fresh.generations()
    for question in VOCABULARY:
        ours, theirs = index.scores(terms(question)), fresh.scores(terms(question))
        for each in kept:
            for sequence in range(index.places[each.document_id].chunks):
                a, b = index.row(each.document_id, sequence), fresh.row(each.document_id, sequence)
                assert ours[a] == pytest.approx(float(theirs[b]), rel=1e-4, abs=1e-6)
                assert index.passages(np.array([a])) == [(each.document_id, sequence)]
    for each in gone:
        assert index.row(each.document_id, 0) == -1


def test_replacing_a_document_leaves_nothing_of_the_old_one():
    document = uuid4()
    index = TermIndex().updated([entry(["pump"], document), entry(["valve"])])
    index = index.updated([entry(["engine"], document, generation=2)])
    assert not index.scores(terms("pump")).any()
    assert index.places[document].generation == 2
    assert index.chunks == 2


def test_many_small_updates_stay_few_segments():
    index = TermIndex()
    for number in range(50):
        index = index.updated([entry([f"word{number} pump"])])
    assert len(index.segments) <= keywords.MAX_SEGMENTS + 1
    assert index.chunks == 50
    assert (index.scores(terms("pump")) > 0).sum() == 50


def test_an_index_without_its_documents_shrinks_to_nothing():
    entries = [entry(["pump valve"]) for _ in range(5)]
    index = TermIndex().updated(entries).updated(removed=[each.document_id for each in entries])
    assert index.chunks == 0
    assert index.rows == 0


def test_the_old_index_is_untouched_by_an_update():
    one = entry(["pump"])
    before = TermIndex().updated([one])
    before.updated(removed=[one.document_id])
    assert before.scores(terms("pump"))[0] > 0


def test_the_mask_holds_the_passages_of_a_collection():
    other = uuid4()
    a, b = entry(["pump", "valve"]), entry(["pump"], collection=other)
    index = TermIndex().updated([a, b])
    mask = index.matching({other})
    assert mask is not None
    assert mask.tolist() == [False, False, True]
    assert index.matching({COLLECTION, other}) is None
    assert not index.matching(set()).any()
    assert index.documents({other}) == [b.document_id]


@given(st.lists(st.integers(0, 20)), st.integers(1, 30))
def test_best_is_the_head_of_the_sorted_list(values: list[int], count: int):
    scores = np.array(values, dtype=np.float32)
    expected = sorted((i for i, value in enumerate(values) if value > 0), key=lambda i: (-values[i], i))[:count]
    assert best(scores, count).tolist() == expected


def test_damaged_postings_are_refused():
    payload = collect(["pump valve"])
    with pytest.raises(Exception):  # noqa: B017, PT011  # zlib, struct or Malformed: never a wrong answer
        TermIndex().updated([Entry(uuid4(), COLLECTION, 1, payload[:-3])])
