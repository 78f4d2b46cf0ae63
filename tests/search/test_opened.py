"""Decrypted vectors that are kept: the right ones after every change of what is published, and never a foreign one."""

from uuid import uuid4

import numpy as np
import pytest

from search.keywords import Entry, Rows, TermIndex, collect
from search.opened import HalfVectors, OpenedVectors, singles

DIMENSION = 4


def test_what_is_held_is_not_read_again():
    index = TermIndex().updated([Entry(uuid4(), uuid4(), 1, collect(["one", "two", "three"]))])
    stored, asked = vectors(3), []

    def read(rows: Rows) -> tuple[Rows, HalfVectors]:
        asked.append(rows.tolist())
        return rows[::-1], stored[rows[::-1]]

    opened = OpenedVectors(1, DIMENSION, index)
    query = np.ones(DIMENSION, dtype=np.float32)
    for rows, missing in (([0, 2], [[0, 2]]), ([2, 0], []), ([0, 1, 2], [[1]])):
        asked.clear()
        found, cosines = opened.cosines(query, np.array(rows), read)
        assert (found.tolist(), asked) == (rows, missing)
        np.testing.assert_array_equal(cosines, stored[rows].astype(np.float32) @ query)
    assert opened.nbytes == 3 * DIMENSION * 2 + 3


def test_what_has_gone_is_left_out_and_asked_for_again():
    index = TermIndex().updated([Entry(uuid4(), uuid4(), 1, collect(["one", "two"]))])
    opened, stored = OpenedVectors(1, DIMENSION, index), vectors(2)
    query = np.ones(DIMENSION, dtype=np.float32)
    found, _ = opened.cosines(query, np.array([0, 1]), lambda rows: (rows[1:], stored[rows[1:]]))
    assert found.tolist() == [1]
    found, _ = opened.cosines(query, np.array([0, 1]), lambda rows: (rows, stored[rows]))
    assert found.tolist() == [0, 1]


def test_they_follow_their_documents_and_not_those_that_were_published_again():
    kept, changed, gone = uuid4(), uuid4(), uuid4()
    collection = uuid4()
    entries = [
        Entry(each, collection, 1, collect([f"{n} {i}" for i in range(3)])) for n, each in enumerate((gone, changed, kept))
    ]
    before = TermIndex().updated(entries)
    opened, stored = OpenedVectors(1, DIMENSION, before), vectors(9)
    query = np.ones(DIMENSION, dtype=np.float32)
    first = before.row(kept, 0)
    opened.cosines(query, np.array([0, 4, first, first + 2]), lambda rows: (rows, stored[rows]))
    after = before.updated([Entry(changed, collection, 2, collect(["new"]))], [gone])
    following = opened.following(after)
    read: list[int] = []

    def note(rows: Rows) -> tuple[Rows, HalfVectors]:
        read.extend(rows.tolist())
        return rows, np.zeros((len(rows), DIMENSION), dtype=np.float16)

    rows = np.array([after.row(kept, 0), after.row(kept, 1), after.row(kept, 2), after.row(changed, 0)])
    _, cosines = following.cosines(query, rows, note)
    assert read == [after.row(kept, 1), after.row(changed, 0)]
    np.testing.assert_array_equal(cosines[[0, 2]], stored[[first, first + 2]].astype(np.float32) @ query)
    assert following.following(after) is following


@pytest.mark.parametrize("shape", [(0, 4), (3, 4)])
def test_every_half_is_its_single(shape: tuple[int, int]):
    some = np.arange(np.prod(shape), dtype=np.uint16).view(np.float16).reshape(shape)
    np.testing.assert_array_equal(singles(some), some.astype(np.float32))


def vectors(number: int) -> HalfVectors:
    return np.random.default_rng(0).normal(size=(number, DIMENSION)).astype(np.float16)
