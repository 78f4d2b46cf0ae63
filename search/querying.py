"""One search: question in, documents out, with every score that led to their order.

Candidates come from the disguised vectors (HNSW) and from the words in memory; what decides is exact: the cosine of
decrypted vectors and BM25, fused. Knows documents and collections by id; names and texts are others' business.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg
from django.db import connection

from search import keywords, ranking
from search.embeddings import embedder
from search.indexing import live_cloak, passage_id, vector_text
from search.keywords import Mask, Scores, TermIndex
from search.models import LIVE_INDEX, Chunk, Terms
from search.pool import pool
from tenants.context import current_tenant

# Cloaked candidates fetched so that the exact top 10 is among them: 0.999 of it in 200 of 5,000 passages, 0.997 in 200
# of 50,000, 0.998 in 400 of 200,000. The connection's hnsw.ef_search must not be smaller than the larger one.
OVER_FETCH = 200
OVER_FETCH_LARGE = 400
LARGE = 50_000
# Up to here decrypting every matching passage costs no more than asking the index and reranking its answer (measured).
SCAN_BELOW = 800
# Beyond this, passages of a filter that the index serves badly are preselected by their disguised vectors.
SCAN_AT_MOST = 20_000
SCAN_BLOCK = 4096

Rows = npt.NDArray[np.int64]

NEAREST = """
WITH near AS MATERIALIZED (
  SELECT chunk_id FROM search_indexentry WHERE index_id = %s
  ORDER BY vector::halfvec(384) <=> %s::halfvec(384) LIMIT %s
)
SELECT id, document_id, sequence, embedding, id IN (SELECT chunk_id FROM near)
FROM search_chunk WHERE id IN (SELECT chunk_id FROM near UNION ALL SELECT unnest(%s::uuid[]))
"""
# "+ 0" keeps the planner from the HNSW index, which under a filter returns fewer rows than match.
NEAREST_OF_DOCUMENTS = NEAREST.replace(
    "ORDER BY vector::halfvec(384) <=> %s::halfvec(384)",
    "AND document_id = ANY(%s) ORDER BY (vector::halfvec(384) <=> %s::halfvec(384)) + 0",
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A document at its best passage. Ranks count among the candidates; 0: that leg did not find the passage."""

    document_id: UUID
    sequence: int
    rank: int
    score: float
    dense: float
    keyword: float
    dense_rank: int
    keyword_rank: int

    @property
    def chunk_id(self) -> UUID:
        return passage_id(self.document_id, self.sequence)


@dataclass(frozen=True)
class Results:
    """Documents, best first. `way` says whether the candidates came through the index or from an exact scan."""

    hits: list[Hit]
    searched: int  # passages that could have been found
    way: Literal["index", "exact"]
    milliseconds: dict[str, float] = field(default_factory=dict)


class _Stages:
    """Where the time of one search goes."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, stage: str) -> None:
        now = time.perf_counter()
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now


@dataclass
class _Candidates:
    """Passages with their exact cosine; `rows` are rows of the term index."""

    rows: Rows
    dense: Scores


def search(text: str, *, collections: Collection[UUID], limit: int = 100, exact: bool = False) -> Results:
    """The best `limit` documents of these collections for a question; of other documents nothing is counted or returned.

    `exact` decrypts and compares every passage instead of asking the vector index.
    """
    if exact:
        return search_exactly([text], collections=collections, limit=limit)[0]
    stages = _Stages()
    index = term_index()
    stages.done("pool")
    mask = index.matching(collections)
    matching = index.amount(collections)
    if not matching:
        return Results([], 0, "exact", stages.milliseconds)
    query = _embedded(text)
    stages.done("embed")
    scores = index.scores(keywords.terms(text))
    by_word = keywords.best(scores, ranking.WINDOW, mask)
    stages.done("keyword")
    way: Literal["index", "exact"] = "exact"
    candidates: _Candidates | None = None
    if matching > SCAN_BELOW:
        way = "index"
        candidates = _through_index(index, query, mask, by_word, min(ranking.WINDOW, matching), None, stages)
        if candidates is None and matching > SCAN_AT_MOST:
            documents = index.documents(collections)
            candidates = _through_index(index, query, mask, by_word, 0, documents, stages)
    if candidates is None:
        way = "exact"
        rows, dense = _scan(index, query[None], index.documents(collections))
        candidates = _Candidates(rows, dense[:, 0])
        stages.done("scan")
    hits = _ranked(index, candidates, by_word, scores, limit)
    stages.done("rank")
    return Results(hits, matching, way, stages.milliseconds)


def search_exactly(texts: Sequence[str], *, collections: Collection[UUID], limit: int = 100) -> list[Results]:
    """The same ranking with every passage as a candidate; several questions share one pass over the vectors."""
    index = term_index()
    mask = index.matching(collections)
    matching = index.amount(collections)
    if not matching or not texts:
        return [Results([], 0, "exact") for _ in texts]
    queries = np.stack([_embedded(text) for text in texts])
    rows, dense = _scan(index, queries, index.documents(collections))
    found = []
    for column, text in enumerate(texts):
        scores = index.scores(keywords.terms(text))
        by_word = keywords.best(scores, ranking.WINDOW, mask)
        hits = _ranked(index, _Candidates(rows, dense[:, column]), by_word, scores, limit)
        found.append(Results(hits, matching, "exact"))
    return found


def term_index() -> TermIndex:
    """The words of everything published in the current workspace, as new as the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT generation FROM search_vectorindex WHERE id = %s", [LIVE_INDEX])
        row = cursor.fetchone()
    assert row is not None, "the migration makes the row"
    return pool().get(current_tenant().id, "terms", int(row[0]), _load_terms)


def forget_questions(tenant_id: UUID) -> None:
    """Drop a workspace's cached questions; what is measured must not come from a cache."""
    embedder().forget_queries(tenant_id.bytes)


def _embedded(text: str) -> Scores:
    return embedder().embed_query(text, current_tenant().id.bytes)


def _load_terms(old: TermIndex | None) -> TermIndex:
    """Bring an index up to date by what was published after its newest document, and what is there no more.

    A generation is given under the index row's lock until its transaction ends: whatever was not seen has a higher one.
    """
    known = {} if old is None else old.generations()
    current = set(Terms.objects.values_list("document_id", flat=True))
    read = Terms._meta.get_field("payload").reader()
    rows = Terms.objects.values_list("document_id", "collection_id", "generation", "payload")
    newer = rows.filter(generation__gt=max(known.values(), default=-1))
    entries = [keywords.Entry(document, where, number, read(document, blob)) for document, where, number, blob in newer]
    return (old or TermIndex()).updated(entries, known.keys() - current)


def _through_index(
    index: TermIndex,
    query: Scores,
    mask: Mask | None,
    by_word: Rows,
    needed: int,
    documents: list[UUID] | None,
    stages: _Stages,
) -> _Candidates | None:
    """Nearest by disguised vectors, joined by what the words found; None when fewer than `needed` may be shown."""
    amount = OVER_FETCH if index.chunks <= LARGE else OVER_FETCH_LARGE
    disguised = vector_text(live_cloak().disguise_query(query))
    worded = [passage_id(*place) for place in index.passages(by_word)]
    parameters: list[Any] = [LIVE_INDEX, disguised, amount, worded]
    if documents is not None:
        parameters.insert(1, documents)
    with _binary_cursor() as cursor:
        cursor.execute(NEAREST if documents is None else NEAREST_OF_DOCUMENTS, parameters)
        found = cursor.fetchall()
    stages.done("candidates")
    kept = [
        (row, chunk_id, embedding, near)
        for chunk_id, document_id, sequence, embedding, near in found
        if (row := index.row(document_id, sequence)) >= 0 and (mask is None or mask[row])
    ]
    if sum(near for *_, near in kept) < needed:
        return None
    dense = _decrypted((chunk_id, embedding) for _, chunk_id, embedding, _ in kept) @ query
    stages.done("rerank")
    return _Candidates(np.array([row for row, *_ in kept], dtype=np.int64), dense)


@contextmanager
def _binary_cursor() -> Iterator[Any]:
    """A cursor whose answers come in PostgreSQL's binary format: ids and ciphertexts without a detour through hex."""
    with connection.cursor() as cursor:
        cursor.cursor.format = psycopg.pq.Format.BINARY
        yield cursor


def _decrypted(stored: Iterator[tuple[UUID, bytes]]) -> Scores:
    """float32[n, 384]: true vectors."""
    read = Chunk._meta.get_field("embedding").reader()
    blob = b"".join([read(chunk_id, embedding) for chunk_id, embedding in stored])
    return np.frombuffer(blob, dtype="<f2").reshape(-1, embedder().dimension).astype(np.float32)


def _scan(index: TermIndex, queries: Scores, documents: Sequence[UUID]) -> tuple[Rows, Scores]:
    """Rows of every passage of these documents and float32[rows, queries] of their cosines, a block at a time."""
    all_rows: list[Rows] = []
    all_scores: list[Scores] = []
    for block in _blocks(index, documents):
        with _binary_cursor() as cursor:
            cursor.execute("SELECT id, document_id, sequence, embedding FROM search_chunk WHERE document_id = ANY(%s)", [block])
            found = cursor.fetchall()
        kept = [
            (row, chunk_id, embedding)
            for chunk_id, document_id, sequence, embedding in found
            if (row := index.row(document_id, sequence)) >= 0
        ]
        all_rows.append(np.array([row for row, _, _ in kept], dtype=np.int64))
        all_scores.append(_decrypted((chunk_id, embedding) for _, chunk_id, embedding in kept) @ queries.T)
    return np.concatenate(all_rows), np.concatenate(all_scores)


def _blocks(index: TermIndex, documents: Sequence[UUID]) -> Iterator[list[UUID]]:
    """Documents in groups of about SCAN_BLOCK passages, so that memory stays bounded."""
    block: list[UUID] = []
    passages = 0
    for document in documents:
        block.append(document)
        passages += index.places[document].chunks
        if passages >= SCAN_BLOCK:
            yield block
            block, passages = [], 0
    if block:
        yield block


def _ranked(index: TermIndex, candidates: _Candidates, by_word: Rows, scores: Scores, limit: int) -> list[Hit]:
    """Fuse both legs over the union of their windows and keep each document's best passage."""
    rows, dense = candidates.rows, candidates.dense
    window = np.argsort(-dense, kind="stable")[: ranking.WINDOW]
    chosen = np.zeros(index.rows, dtype=np.bool_)
    chosen[rows[window]] = True
    chosen[by_word] = True
    union = chosen[rows]
    rows, dense = rows[union], dense[union]
    keyword = scores[rows]
    fused = ranking.fused(dense, keyword)
    dense_ranks, keyword_ranks = ranking.ranks(dense), ranking.ranks(keyword)
    places = index.passages(rows)
    order = ranking.best_per_key([document for document, _ in places], fused)[:limit]
    return [
        Hit(
            document_id=places[i][0],
            sequence=places[i][1],
            rank=rank,
            score=float(fused[i]),
            dense=float(dense[i]),
            keyword=float(keyword[i]),
            dense_rank=int(dense_ranks[i]),
            keyword_rank=int(keyword_ranks[i]) if keyword[i] > 0 else 0,
        )
        for rank, i in enumerate(order, start=1)
    ]
