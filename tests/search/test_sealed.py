"""Nearest passages in memory: the same as comparing with everything, whatever came, went and was merged."""

from itertools import count
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import keywords, sealed
from search.keywords import TermIndex
from search.sealed import Entry, Lists, SealedIndex

DIMENSION = 16
ADDED = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=4)  # documents, and their passages
REMOVED = st.lists(st.integers(0, 12), max_size=3)


def vectors(rng: np.random.Generator, amount: int, dimension: int = DIMENSION) -> sealed.Halves:
    made = rng.normal(size=(amount, dimension))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


class Both:
    """A sealed index, its term index, and plainly what should be in them."""

    def __init__(self) -> None:
        self.rng, self.generations = np.random.default_rng(0), count(1)
        self.index, self.terms = SealedIndex(DIMENSION), TermIndex()
        self.known: dict[UUID, sealed.Halves] = {}

    def change(self, add: list[tuple[UUID, int]], remove: list[UUID]) -> None:
        entries, words = [], []
        for document, passages in add:
            generation, made = next(self.generations), vectors(self.rng, passages)
            entries.append(Entry(document, generation, made))
            words.append(keywords.Entry(document, UUID(int=0), generation, keywords.collect(["word"] * passages)))
            self.known[document] = made
        for document in remove:
            self.known.pop(document, None)
        self.index = self.index.updated(entries, remove)
        self.terms = self.terms.updated(words, remove)

    def exact(self, query: np.ndarray, allowed: set[UUID]) -> list[tuple[float, tuple[UUID, int]]]:
        return sorted(
            (
                (float(row.astype(np.float32) @ query), (document, number))
                for document, rows in self.known.items()
                if document in allowed
                for number, row in enumerate(rows)
            ),
            reverse=True,
        )

    def check(self, allowed: set[UUID] | None = None) -> None:
        query = vectors(self.rng, 1)[0].astype(np.float32)
        if not self.known:
            assert not len(self.index.nearest(query, self.terms, None, 5)[0])
            return
        expected = self.exact(query, set(self.known) if allowed is None else allowed)[:5]
        mask = None
        if allowed is not None:
            mask = np.zeros(self.terms.rows, dtype=np.bool_)
            places = self.terms.passages(np.arange(self.terms.rows))
            mask[:] = [document in allowed for document, _ in places]
        rows, near = self.index.nearest(query, self.terms, mask, 5)
        assert self.terms.passages(rows) == [place for _, place in expected]
        np.testing.assert_allclose(near, [score for score, _ in expected], atol=2e-3)
        again, same = self.index.similarities(query, self.terms, rows)
        np.testing.assert_array_equal(again, rows)
        np.testing.assert_allclose(same, near, atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ADDED, REMOVED), min_size=1, max_size=30))
def test_it_finds_what_comparing_with_everything_finds(changes: list[tuple[list[tuple[int, int]], list[int]]]):
    both, names = Both(), [UUID(int=number) for number in range(13)]
    for added, removed in changes:
        added_now = {names[number]: passages for number, passages in added}
        both.change(list(added_now.items()), [names[number] for number in removed if names[number] not in added_now])
        both.check()
        both.check({name for name in both.known if name.int % 2})
    assert len(both.index.segments) <= sealed.MAX_SEGMENTS
    assert both.index.generations().keys() == both.known.keys()


def test_only_the_new_is_read_and_the_old_index_is_as_it_was():
    both = Both()
    both.change([(uuid4(), 3), (uuid4(), 2)], [])
    before, segment = both.index, both.index.segments[0]
    both.change([(uuid4(), 4)], [])
    assert both.index.segments[0] is segment
    assert (before.rows, both.index.rows) == (5, 9)


def test_nothing_is_found_in_an_empty_index():
    both = Both()
    rows, near = both.index.nearest(vectors(both.rng, 1)[0].astype(np.float32), both.terms, None, 5)
    assert len(rows) == len(near) == 0


@pytest.fixture
def clustered() -> sealed.Halves:
    rng = np.random.default_rng(1)
    made = rng.normal(size=(60, 64))[rng.integers(60, size=6000)] / 8 + 0.1 * rng.normal(size=(6000, 64))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def test_inverted_lists_find_nearly_all_and_are_not_used_where_they_do_not(
    clustered: sealed.Halves, monkeypatch: pytest.MonkeyPatch
):
    lists = Lists.train(clustered)
    assert lists is not None
    assert lists.recall >= sealed.RECALL_AT_LEAST
    monkeypatch.setattr(sealed, "PROBES", (1,))
    assert Lists.train(vectors(np.random.default_rng(2), 6000, 64)) is None  # no clusters, one list looked into


def test_lists_come_in_the_background_and_change_no_answer(clustered: sealed.Halves, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sealed, "LISTS_ABOVE", 5000)
    document, calls = uuid4(), []
    index = SealedIndex(64).updated([Entry(document, 1, clustered)])
    terms = TermIndex().updated([keywords.Entry(document, UUID(int=0), 1, keywords.collect(["word"] * len(clustered)))])
    query = clustered[17].astype(np.float32)
    before = index.nearest(query, terms, None, 10)[0]
    thread = sealed.train_in_background(index, lambda: calls.append("begin"), lambda: calls.append("end"))
    assert thread is not None
    thread.join()
    assert calls == ["begin", "end"]
    assert index.segments[0].lists is not None
    np.testing.assert_array_equal(index.nearest(query, terms, None, 10)[0], before)
    assert sealed.train_in_background(index, lambda: None, lambda: None) is None
    few = np.zeros(len(clustered), dtype=np.bool_)
    few[[3, 17, 99]] = True
    assert set(index.nearest(query, terms, few, 10)[0].tolist()) == {3, 17, 99}
