"""Figures against their definitions."""

import math

import pytest

from search.evaluation.metrics import Quality, percentiles, quality


def test_a_perfect_order():
    assert quality({"a": 2, "b": 1, "c": 0}, ["a", "b", "c"]) == Quality(1, 1, 1, 1)


def test_figures_by_hand():
    grades = {"a": 1, "b": 1, "missing:c": 1}
    got = quality(grades, ["x", "a", *[f"y{i}" for i in range(10)], "b"])
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert got.ndcg == pytest.approx((1 / math.log2(3)) / ideal)
    assert got.mrr == pytest.approx(0.5)
    assert got.recall_10 == pytest.approx(1 / 3)
    assert got.recall_100 == pytest.approx(2 / 3)


def test_nothing_returned():
    assert quality({"a": 1}, []) == Quality(0, 0, 0, 0)


def test_percentiles():
    assert percentiles([]) == {"p50": 0.0, "p95": 0.0}
    assert percentiles(list(range(101))) == {"p50": 50.0, "p95": 95.0}
