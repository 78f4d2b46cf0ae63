"""True vectors as they lie in the database: many at once, packed."""

from typing import Any

import numpy as np
import pytest

from search import indexes, vectors
from search.models import Chunk
from tenants.ciphers import Tampered

pytestmark = pytest.mark.django_db


@pytest.fixture
def packed(handbook: Any) -> tuple[bytes, bytes]:
    """Ids and encrypted vectors of every passage."""
    held = Chunk.objects.order_by("pk").values_list("id", "embedding")
    return b"".join(pk.bytes for pk, _ in held), b"".join(bytes(vector) for _, vector in held)


def test_packed_ones_open_as_one_by_one(packed: tuple[bytes, bytes]):
    live = indexes.live()
    ids = list(Chunk.objects.order_by("pk").values_list("id", flat=True))
    one_by_one = vectors.stored(live, ids)
    expected = vectors.opened(live, ((pk, one_by_one[pk]) for pk in ids))
    np.testing.assert_array_equal(vectors.unpacked(live, *packed), expected)
    assert vectors.unpacked(live, b"", b"").shape == (0, live.dimension)


def test_one_of_another_length_opens_nothing(packed: tuple[bytes, bytes]):
    ids, held = packed
    with pytest.raises(Tampered, match="does not have its length"):
        vectors.unpacked(indexes.live(), ids, held[:-1])


def test_one_in_anothers_place_does_not_open(packed: tuple[bytes, bytes]):
    ids, held = packed
    with pytest.raises(Tampered):
        vectors.unpacked(indexes.live(), ids[16:32] + ids[:16] + ids[32:], held)
