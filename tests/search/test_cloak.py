"""The disguise of vectors: what it keeps, what it hides, and that it repeats itself exactly."""

import os
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.cloak import BETA, Cloak, Malformed, ball_points, gaussians

D = 384


@pytest.fixture(scope="module")
def cloak() -> Cloak:
    return Cloak.create(D, os.urandom(32))


def units(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_the_rotation_is_orthogonal(cloak: Cloak):
    np.testing.assert_allclose(cloak.rotation @ cloak.rotation.T, np.eye(D), atol=1e-5)


def test_rotations_of_two_workspaces_have_nothing_in_common(cloak: Cloak):
    other = Cloak.create(D, os.urandom(32))
    assert np.abs((cloak.rotation * other.rotation).sum() / D) < 0.02


def test_columns_are_spread_evenly_over_signs():
    """Without the correction of signs in QR the diagonal is biased and the rotation not Haar."""
    signs = [np.diag(Cloak.create(16, b"n" * 32).rotation) > 0 for _ in range(200)]
    assert 0.42 < np.mean(signs) < 0.58


def test_a_rotated_query_keeps_its_distance_to_rotated_vectors(cloak: Cloak):
    vectors, query = units(20), units(1, seed=1)[0]
    rotated = vectors @ cloak.rotation
    np.testing.assert_allclose(rotated @ cloak.disguise_query(query).astype(np.float32), vectors @ query, atol=2e-3)


def test_noise_is_uniform_in_the_ball_of_radius_beta_over_four(cloak: Cloak):
    ids = [uuid4() for _ in range(500)]
    vectors = units(500)
    noise = cloak.disguise(vectors, ids).astype(np.float32) @ cloak.rotation.T - vectors
    lengths = np.linalg.norm(noise, axis=1)
    assert lengths.max() <= BETA / 4 * 1.01
    assert lengths.mean() == pytest.approx(BETA / 4, rel=0.01)  # nearly all of a ball of 384 dimensions is its shell
    assert np.abs(noise.mean(axis=0)).max() < 0.02


def test_the_same_passage_gets_the_same_disguise_and_another_never(cloak: Cloak):
    vector, chunk = units(1), uuid4()
    again = cloak.disguise(vector, [chunk])
    np.testing.assert_array_equal(cloak.disguise(vector, [chunk]), again)
    assert not np.array_equal(cloak.disguise(vector, [uuid4()]), again)
    assert not np.array_equal(cloak.disguise(units(1, seed=2), [chunk]) - again, np.zeros((1, D)))


def test_a_batch_is_disguised_like_its_members(cloak: Cloak):
    vectors, ids = units(5), [uuid4() for _ in range(5)]
    together = cloak.disguise(vectors, ids).astype(np.float32)
    one_by_one = np.vstack([cloak.disguise(vectors[i : i + 1], [ids[i]]) for i in range(5)]).astype(np.float32)
    np.testing.assert_allclose(together, one_by_one, atol=2e-3)


def test_what_is_stored_is_not_the_vector(cloak: Cloak):
    vectors = units(200)
    stored = cloak.disguise(vectors, [uuid4() for _ in vectors]).astype(np.float32)
    assert np.abs((vectors * stored).sum(axis=1)).mean() < 0.1


def test_neighbours_survive_among_many_more_candidates(cloak: Cloak):
    """Real embeddings cluster; here 40 topics. The ten nearest are among the first 200 of the disguised order."""
    rng = np.random.default_rng(3)
    topics = units(40, seed=4)
    vectors = topics[rng.integers(40, size=4000)] + 0.045 * rng.normal(size=(4000, D)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    stored = cloak.disguise(vectors, [uuid4() for _ in vectors]).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    kept = []
    for query in vectors[:50] + 0.02 * rng.normal(size=(50, D)).astype(np.float32):
        nearest = set(np.argsort(-(vectors @ query))[:10].tolist())
        candidates = np.argsort(-(stored @ cloak.disguise_query(query).astype(np.float32)))[:200].tolist()
        kept.append(len(nearest & set(candidates)) / 10)
    assert np.mean(kept) > 0.95


def test_it_survives_storage(cloak: Cloak):
    again = Cloak.from_bytes(cloak.to_bytes())
    np.testing.assert_array_equal(again.rotation, cloak.rotation)
    assert again.noise_key == cloak.noise_key
    with pytest.raises(Malformed):
        Cloak.from_bytes(cloak.to_bytes()[:-4])


@settings(max_examples=25)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(1, 65))
def test_random_points_follow_their_seeds(seeds: list[bytes], dimension: int):
    points = ball_points(seeds, dimension, 1.0)
    assert points.shape == (len(seeds), dimension)
    assert (np.linalg.norm(points, axis=1) <= 1.0001).all()
    np.testing.assert_array_equal(points, ball_points(seeds, dimension, 1.0))


def test_gaussians_are_standard_normal():
    drawn = gaussians([bytes([i]) for i in range(200)], D)
    assert drawn.mean() == pytest.approx(0, abs=0.02)
    assert drawn.std() == pytest.approx(1, abs=0.02)
