"""Nearest passages in memory, for vectors that the database holds encrypted: exact while few, by inverted lists when many.

Immutable but for the inverted lists, which are trained in the background: until they are there, everything is compared.
Refuses to know where vectors come from. All have unit length, so that the inner product is their cosine.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from search.keywords import Mask, Scores, TermIndex
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

faiss: Any = import_module("faiss")  # its type hints know the C++ signatures, not what its Python side adds to them

MAX_SEGMENTS = 8
# Comparing with everything takes longer than asking inverted lists from about here on (measured: benchmark sealed).
LISTS_ABOVE = 20_000
TRAINED_ON = 40  # vectors for each list, faiss's own lower bound being 39
# Share of the exact ten best that the lists must find on vectors of their own before they are used.
RECALL_AT_LEAST = 0.995
SAMPLES = 200
PROBES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # lists looked into: as few as that recall allows
PRESELECTED = 4  # candidates from the lists, whose codes are coarse, for each that is wanted

Rows = npt.NDArray[np.int64]
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Entry:
    """One document's vectors, float16[passages, d] in sequence, and what they are filed under."""

    document_id: UUID
    generation: int
    vectors: Halves


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document's vectors lie: rows first … first + passages - 1 of a segment."""

    generation: int
    segment: int
    first: int
    passages: int


class Lists:
    """An inverted file over a segment's vectors: k-means cells, eight bits a component."""

    def __init__(self, index: Any, probes: int, recall: float) -> None:
        self._index, self.probes, self.recall = index, probes, recall

    @classmethod
    def train(cls, vectors: Halves, seed: int = 0) -> "Lists | None":
        """None where no number of lists that is worth looking into reaches RECALL_AT_LEAST."""
        rows, dimension = vectors.shape
        lists = int(4 * rows**0.5)
        rng = np.random.default_rng(seed)
        sample = vectors[np.sort(rng.choice(rows, min(rows, TRAINED_ON * lists), replace=False))].astype(np.float32)
        cells = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFScalarQuantizer(
            cells, dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.niter = 8
        index.train(sample)
        for start in range(0, rows, 8192):
            index.add(vectors[start : start + 8192].astype(np.float32))
        chosen = rng.choice(rows, min(rows, SAMPLES), replace=False)
        # between two passages, so that none asks for itself
        asked = vectors[chosen].astype(np.float32) + vectors[np.roll(chosen, 1)].astype(np.float32)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        best = _exact_best(vectors, asked, 10)
        for probes in PROBES:
            made = cls(index, probes, 0.0)
            hits = 0
            for query, expected in zip(asked, best, strict=True):
                found = made.candidates(query, 10 * PRESELECTED, None)
                near = vectors[found].astype(np.float32) @ query
                hits += len(set(found[np.argsort(-near)[:10]].tolist()) & set(expected.tolist()))
            made.recall = hits / best.size
            if made.recall >= RECALL_AT_LEAST:
                return made
        return None

    def candidates(self, query: Scores, amount: int, selector: Any) -> Rows:
        parameters = faiss.SearchParametersIVF(nprobe=self.probes, sel=selector)
        _, rows = self._index.search(query[None], amount, params=parameters)
        found: Rows = rows[0]
        return found[found >= 0]


def _exact_best(vectors: Halves, queries: Scores, amount: int) -> Rows:
    """int64[queries, amount]: rows of the largest inner products."""
    flat = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(vectors), 8192):
        flat.add(vectors[start : start + 8192].astype(np.float32))
    rows: Rows = flat.search(queries, amount)[1]
    return rows


class Segment:
    """Some documents' vectors as rows. `lists` is None until they are trained, and where rows are few."""

    def __init__(self, documents: Sequence[UUID], sizes: Sequence[int], vectors: Halves) -> None:
        self.documents = tuple(documents)
        self.starts: Rows = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        self._flat = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._flat.codes.resize(vectors.nbytes)
        # What is held is the quantizer's code: a float16 is its own.
        held = faiss.rev_swig_ptr(self._flat.codes.data(), vectors.nbytes)
        held[:] = vectors.reshape(-1).view(np.uint8)
        self._flat.ntotal, self._flat.is_trained = len(vectors), True
        self.vectors: Halves = held.view(np.float16).reshape(vectors.shape)
        self.lists: Lists | None = None

    @property
    def rows(self) -> int:
        return len(self.vectors)

    @property
    def wants_lists(self) -> bool:
        return self.rows > LISTS_ABOVE

    @property
    def nbytes(self) -> int:
        """With its lists, whether they are there yet or not."""
        lists = self.vectors.nbytes // 2 + 8 * self.rows if self.wants_lists else 0
        return self.vectors.nbytes + lists + 150 * len(self.documents)

    def nearest(self, query: Scores, amount: int, allowed: Mask | None) -> tuple[Rows, Scores]:
        """The `amount` best allowed rows and their cosines, best first."""
        selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        lists = self.lists
        if lists is not None and (allowed is None or 2 * int(allowed.sum()) > self.rows):
            rows = lists.candidates(query, max(amount, 10) * PRESELECTED, selector)
            if len(rows) >= amount:
                near = self.vectors[rows].astype(np.float32) @ query
                order = np.argsort(-near, kind="stable")[:amount]
                return rows[order], near[order]
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        near, rows = self._flat.search(query[None], min(amount, self.rows), params=parameters)
        kept = rows[0] >= 0
        return rows[0][kept], near[0][kept]


@dataclass(frozen=True)
class Alignment:
    """Rows of a term index beside rows here: passages that only one of the two has are -1 in it."""

    terms: TermIndex
    to_terms: Rows  # [rows here]
    to_vectors: Rows  # [rows of the term index]


@dataclass(frozen=True)
class SealedIndex:
    """The vectors of a workspace's published passages. Immutable: `updated` gives the next one."""

    dimension: int
    segments: tuple[Segment, ...] = ()
    places: dict[UUID, Place] = field(default_factory=dict)
    _aligned: list[Alignment] = field(default_factory=list, repr=False, compare=False)  # the last one, of which there is one

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)

    @property
    def nbytes(self) -> int:
        return sum(segment.nbytes for segment in self.segments) + 16 * self.rows + 250 * len(self.places)

    def generations(self) -> dict[UUID, int]:
        return {document: place.generation for document, place in self.places.items()}

    def updated(self, added: Iterable[Entry] = (), removed: Iterable[UUID] = ()) -> "SealedIndex":
        """The index with documents added (replacing earlier vectors of theirs) and removed."""
        entries = [entry for entry in added if len(entry.vectors)]
        gone = set(removed) | {entry.document_id for entry in entries}
        if not entries and not gone & self.places.keys():
            return self
        places = {document: place for document, place in self.places.items() if document not in gone}
        segments = list(self.segments)
        if entries:
            segment = Segment(
                [entry.document_id for entry in entries],
                [len(entry.vectors) for entry in entries],
                np.concatenate([entry.vectors for entry in entries]),
            )
            for entry, (start, end) in zip(entries, pairwise(segment.starts.tolist()), strict=True):
                places[entry.document_id] = Place(entry.generation, len(segments), start, end - start)
            segments.append(segment)
        return SealedIndex(self.dimension, tuple(segments), places)._compacted()

    def _compacted(self) -> "SealedIndex":
        """Few segments, few dead rows; the largest, whose lists take longest to train, is left alone while it can be."""
        alive = [0] * len(self.segments)
        for place in self.places.values():
            alive[place.segment] += place.passages
        wasteful = [2 * living < segment.rows for living, segment in zip(alive, self.segments, strict=True)]
        if len(self.segments) <= MAX_SEGMENTS and not any(wasteful):
            return self
        largest = max(range(len(self.segments)), key=lambda number: alive[number])
        spared = not wasteful[largest] and 2 * alive[largest] > sum(alive)
        merged = [number for number in range(len(self.segments)) if not (spared and number == largest)]
        kept = [self.segments[largest]] if spared else []
        moving = [(document, place) for document, place in self.places.items() if place.segment in set(merged)]
        places = {document: Place(p.generation, 0, p.first, p.passages) for document, p in self.places.items()}
        if moving:
            segment = Segment(
                [document for document, _ in moving],
                [place.passages for _, place in moving],
                np.concatenate([self._of(place) for _, place in moving]),
            )
            for (document, place), (start, end) in zip(moving, pairwise(segment.starts.tolist()), strict=True):
                places[document] = Place(place.generation, len(kept), start, end - start)
            kept.append(segment)
        return SealedIndex(self.dimension, tuple(kept), places)

    def _of(self, place: Place) -> Halves:
        return self.segments[place.segment].vectors[place.first : place.first + place.passages]

    # ---------------------------------------------------------------- asking

    def nearest(self, query: Scores, terms: TermIndex, mask: Mask | None, amount: int) -> tuple[Rows, Scores]:
        """Rows of the term index and cosines of the best passages that `mask`, bool[rows of the term index], lets through."""
        aligned = self._alignment(terms)
        found_rows: list[Rows] = [np.zeros(0, dtype=np.int64)]
        found_near: list[Scores] = [np.zeros(0, dtype=np.float32)]
        offset = 0
        for segment in self.segments:
            here = aligned.to_terms[offset : offset + segment.rows]
            allowed = here >= 0 if mask is None else (here >= 0) & mask[here]
            if allowed.any():
                rows, near = segment.nearest(query, amount, None if allowed.all() else allowed)
                found_rows.append(here[rows])
                found_near.append(near)
            offset += segment.rows
        rows, near = np.concatenate(found_rows), np.concatenate(found_near)
        order = np.argsort(-near, kind="stable")[:amount]
        return rows[order], near[order]

    def similarities(self, query: Scores, terms: TermIndex, rows: Rows) -> tuple[Rows, Scores]:
        """Those of these rows of the term index that have a vector here, and their cosines."""
        here = self._alignment(terms).to_vectors[rows]
        rows, here = rows[here >= 0], here[here >= 0]
        near = np.zeros(len(rows), dtype=np.float32)
        offset = 0
        for segment in self.segments:
            within = (here >= offset) & (here < offset + segment.rows)
            near[within] = segment.vectors[here[within] - offset].astype(np.float32) @ query
            offset += segment.rows
        return rows, near

    def _alignment(self, terms: TermIndex) -> Alignment:
        for aligned in self._aligned:  # another thread may replace it: either is right for its own term index
            if aligned.terms is terms:
                return aligned
        to_terms = np.full(self.rows, -1, dtype=np.int64)
        to_vectors = np.full(terms.rows, -1, dtype=np.int64)
        offsets = np.cumsum([0, *(segment.rows for segment in self.segments)])
        for document, place in self.places.items():
            there = terms.places.get(document)
            if there is None:
                continue
            number = min(place.passages, there.chunks)
            mine, theirs = offsets[place.segment] + place.first, int(terms.offsets[there.segment]) + there.first
            to_terms[mine : mine + number] = np.arange(theirs, theirs + number)
            to_vectors[theirs : theirs + number] = np.arange(mine, mine + number)
        aligned = Alignment(terms, to_terms, to_vectors)
        self._aligned[:] = [aligned]
        return aligned


# ---------------------------------------------------------------- training, in the background

_one_at_a_time = threading.Lock()


def train_in_background(index: SealedIndex, begin: Callable[[], None], end: Callable[[], None]) -> threading.Thread | None:
    """Give every large segment its lists, one segment of the process at a time. `begin` and `end` stand around the use of
    the vectors, which a freeze of the keys waits for. None: there is nothing to train.
    """
    waiting = [segment for segment in index.segments if segment.wants_lists and segment.lists is None]
    if not waiting:
        return None

    def train() -> None:
        try:
            for segment in waiting:
                with _one_at_a_time:
                    if segment.lists is None:
                        segment.lists = Lists.train(segment.vectors)
        except (RuntimeError, MemoryError) as error:  # faiss's own are RuntimeErrors
            logger.error("inverted lists could not be trained, everything is compared instead: %s", describe_exception(error))
        finally:
            end()

    begin()
    thread = threading.Thread(target=train, name="inverted-lists", daemon=True)
    thread.start()
    return thread
