"""The true vectors that searches of an index in the database came near to, of an open one by words alone, kept beside its
words: whoever types on, asks again or asks for much the same comes near to the same ones.

Knows them by the rows of one term index. Refuses to know where they come from.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from search.cloak import HalfVectors
from search.keywords import Mask, Rows, Scores, TermIndex

Read = Callable[[Rows], tuple[Rows, HalfVectors]]  # of these rows, in any order; those that are gone are left out


class OpenedVectors:
    """Of one index. Several threads may ask at once: what two of them read is the same."""

    def __init__(self, index_id: int, dimension: int, terms: TermIndex) -> None:
        self.index_id, self._terms = index_id, terms
        self._held: Mask = np.zeros(terms.rows, dtype=np.bool_)
        self._halves: HalfVectors = np.empty((terms.rows, dimension), dtype=np.float16)  # takes memory when written to

    @property
    def nbytes(self) -> int:
        """As if all were held: what the pool has agreed to."""
        return self._held.nbytes + self._halves.nbytes

    def following(self, terms: TermIndex) -> "OpenedVectors":
        """For the next term index, with the vectors of documents that are published there as they were here."""
        if terms is self._terms:
            return self
        made = OpenedVectors(self.index_id, self._halves.shape[1], terms)
        for document in self._terms.documents_of(np.flatnonzero(self._held)):
            before, after = self._terms.places.get(document), terms.places.get(document)
            if before is not None and after is not None and before.generation == after.generation:
                here, there = self._terms.rows_at(before), terms.rows_at(after)
                made._held[there], made._halves[there] = self._held[here], self._halves[here]
        return made

    def cosines(self, query: Scores, rows: Rows, read: Read) -> tuple[Rows, Scores]:
        """Those of these rows that are there, and float32[n] of their exact cosines; what is not held is `read`."""
        missing = rows[~self._held[rows]]
        if len(missing):
            found, halves = read(missing)
            self._halves[found] = halves
            self._held[found] = True  # last: another thread may look
            rows = rows[self._held[rows]]
        return rows, singles(self._halves[rows]) @ query


_SINGLES: npt.NDArray[np.float32] = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def singles(halves: HalfVectors) -> npt.NDArray[np.float32]:
    """As float32, in half the time of numpy's own way."""
    return np.take(_SINGLES, np.ascontiguousarray(halves).view(np.uint16))
