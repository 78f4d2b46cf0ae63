"""Fusion of the two legs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.ranking import ALPHA, best_per_key, fused, ranks, standardised

scores = arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))


@given(scores)
def test_standardised_scores_have_mean_zero_and_deviation_one_or_say_nothing(values: np.ndarray):
    z = standardised(values)
    if values.std() >= 1e-3:
        assert abs(z.mean()) < 1e-2
        assert abs(z.std() - 1) < 1e-2
    elif values.std() < 1e-7:
        assert not z.any()


@given(scores, st.floats(0.5, 10), st.floats(-5, 5))
def test_scale_and_offset_of_a_leg_do_not_change_the_order(values: np.ndarray, scale: float, offset: float):
    if values.std() < 0.1:
        return
    other = np.linspace(0, 1, len(values), dtype=np.float32)
    a = fused(values, other)
    b = fused((values * np.float32(scale) + np.float32(offset)).astype(np.float32), other)
    np.testing.assert_allclose(a, b, atol=5e-3)


def test_no_candidates_are_no_error():
    nothing = np.zeros(0, dtype=np.float32)
    assert len(fused(nothing, nothing)) == 0
    assert len(ranks(nothing)) == 0


def test_a_leg_that_says_nothing_leaves_the_order_to_the_other():
    dense = np.array([0.1, 0.9, 0.5], dtype=np.float32)
    assert np.argsort(-fused(dense, np.zeros(3, dtype=np.float32))).tolist() == [1, 2, 0]


def test_meaning_weighs_more_than_words():
    dense = np.array([1, 0, 0], dtype=np.float32)
    keyword = np.array([0, 1, 0], dtype=np.float32)
    both = fused(dense, keyword)
    assert both[0] > both[1] > both[2]
    assert ALPHA == 0.6


@given(scores)
def test_ranks_count_what_is_better(values: np.ndarray):
    assert ranks(values).tolist() == [1 + sum(other > value for other in values) for value in values]


def test_a_document_scores_by_its_best_passage():
    assert best_per_key(["a", "b", "a", "c"], np.array([1, 5, 9, 5], dtype=np.float32)) == [2, 1, 3]
    assert best_per_key([], np.zeros(0, dtype=np.float32)) == []
