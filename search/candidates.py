"""Which passages are worth ranking: those that the live index gives, or all that match; with their exact cosines.

The index is asked in the database by HNSW, or, sealed, in memory. Refuses to know how they are ranked.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import numpy as np
from django.db import connection

from search import indexes, ranking, vectors
from search.cloak import HalfVectors
from search.indexes import Live
from search.indexing import passage_id
from search.keywords import Mask, Rows, Scores, TermIndex
from search.loaded import binary_cursor, opened_of, sealed_index, term_index
from search.models import Protection
from search.opened import OpenedVectors, singles

# Cloaked candidates fetched so that the exact top 10 is among them. In the order of the disguise: 0.999 of it in 200 of 5,000
# passages, 0.980 in 200 of 20,000, 0.945 in 200 and 0.981 in 400 of 50,000 (of `benchmark hnsw`). The connection's
# hnsw.ef_search must not be smaller than the larger one: beyond it a second scan takes as long again.
OVER_FETCH = 200
OVER_FETCH_LARGE = 400
# An open index ranks by the true vectors: the window, and some for what is stored and not published.
OPEN_FETCH = 120
LARGE = 20_000
# Up to here decrypting every passage costs no more than asking the index and reranking its answer (measured: benchmark scan).
SCAN_BELOW = 400
# Beyond this, passages of a filter that the index serves badly are preselected by their disguised vectors.
SCAN_AT_MOST = 20_000
SCAN_BLOCK = 4096
RECALL_DEPTH, RECALL_SAMPLES = 10, 100
AS_GOOD = 1e-3  # cosines nearer to each other say the same: an index in memory rounds to float16

NO_ROWS: Rows = np.zeros(0, dtype=np.int64)

Way = Literal["index", "exact"]

# "{operator}" and "{dimension}" as of the index: without the cast, and with its number in anything but a plain value, the
# planner does not find the partial expression index.
DISTANCE = "vector::halfvec({dimension}) {operator} %(query)s::halfvec({dimension})"
NEAR = """
WITH near AS MATERIALIZED (
  SELECT chunk_id{found} FROM search_indexentry WHERE index_id = %(index)s {among}
  ORDER BY {distance} LIMIT %(amount)s
)
"""
# All in one value each, here and below: half the time of a row for each passage.
IDS = "SELECT string_agg(uuid_send(chunk_id), '') FROM near"
ENCRYPTED = """
SELECT string_agg(uuid_send(id), ''), string_agg(embedding, '') FROM {passages}
WHERE id = ANY(%(ids)s) AND embedding IS NOT NULL
"""
# An open index holds the true vectors themselves: nothing is decrypted.
CLEAR = """
SELECT string_agg(uuid_send(chunk_id), ''), string_agg(substring(halfvec_send(vector) FROM 5), '') FROM search_indexentry
WHERE index_id = %(index)s AND chunk_id = ANY(%(ids)s)
"""
# Nothing but ids and cosines is fetched of the nearest, and of what words found where no vectors are kept in memory. The
# question is the sum of two halfvecs, as exact as a float32.
COSINE = "-(vector <#> %(query)s::halfvec({dimension})) - (vector <#> %(rest)s::halfvec({dimension}))"
IN_CLEAR = """
SELECT string_agg(uuid_send(chunk_id), ''), string_agg(float8send(cosine), '') FROM near
UNION ALL
SELECT string_agg(uuid_send(chunk_id), ''), string_agg(float8send({cosine}), '') FROM search_indexentry
WHERE index_id = %(index)s AND chunk_id = ANY(%(worded)s::uuid[])
"""


def nearest(index: Live, *, of_documents: bool = False, cosines: bool = False) -> str:
    """The statement that asks an index in the database. Its parameters: index, query and amount, documents if it asks for the
    passages `of_documents` alone, and rest and worded where an open one answers with `cosines`.
    """
    operator, _ = indexes.METRICS[index.metric]
    distance = DISTANCE.format(operator=operator, dimension=index.dimension)
    cosine = COSINE.format(dimension=index.dimension)
    near = NEAR.format(
        found=f", {cosine} AS cosine" if cosines else "",
        among="AND document_id = ANY(%(documents)s)" if of_documents else "",
        # "+ 0" keeps the planner from the HNSW index, which under a filter returns fewer rows than match
        distance=f"({distance}) + 0" if of_documents else distance,
    )
    return near + (IN_CLEAR.format(cosine=cosine) if cosines else IDS)


class Stages:
    """Where the time of one search goes."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, stage: str) -> None:
        now = time.perf_counter()
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now


@dataclass
class Candidates:
    """Passages with their exact cosine; `rows` are rows of the term index."""

    rows: Rows
    dense: Scores


def gather(
    live: Live,
    index: TermIndex,
    query: Scores | None,
    mask: Mask | None,
    by_word: Rows,
    collections: Collection[UUID],
    *,
    matching: int,
    narrowed: bool,
    stages: Stages,
) -> tuple[Candidates, Way]:
    """Passages worth ranking among the `matching` that `mask` lets through, and how they were found.

    By the live index, or all of them where they are few or it serves them badly. `narrowed`: more than the collections decides
    which match. Without a query the words alone find.
    """
    if query is None or not matching:
        return Candidates(by_word, np.zeros(len(by_word), dtype=np.float32)), "exact"
    window = min(ranking.WINDOW, matching)
    found: Candidates | None = None
    if live.protection == Protection.SEALED:
        found = _in_memory(live, index, query, mask, by_word, window, stages)
    elif matching > SCAN_BELOW:
        found = through_index(live, index, query, mask, by_word, window, None, stages)
        if found is None and matching > SCAN_AT_MOST:
            documents, needed = index.documents(collections), 0
            if narrowed and mask is not None:
                documents, needed = index.documents_of(np.flatnonzero(mask)), window
            found = through_index(live, index, query, mask, by_word, needed, documents, stages)
    if found is not None:
        return found, "index"
    if narrowed and mask is not None:
        found = compared(live, index, query, np.flatnonzero(mask))
    else:
        rows, dense = scan(live, index, query[None], index.documents(collections))
        found = Candidates(rows, dense[:, 0])
    stages.done("scan")
    return found, "exact"


def _in_memory(
    live: Live, index: TermIndex, query: Scores, mask: Mask | None, by_word: Rows, needed: int, stages: Stages
) -> Candidates | None:
    """Nearest by the vectors in memory, joined by what the words found; None when fewer than `needed` are there."""
    vectors = sealed_index(live)
    stages.done("pool")
    rows, near = vectors.nearest(query, index, mask, ranking.WINDOW)
    if len(rows) < needed:
        return None
    others, their_near = vectors.similarities(query, index, np.setdiff1d(by_word, rows))
    stages.done("candidates")
    return Candidates(np.concatenate([rows, others]), np.concatenate([near, their_near]))


def over_fetch(live: Live, passages: int, mask: Mask | None) -> list[int]:
    """How many of the nearest to fetch of so many passages; the next amount where too few of them may be shown."""
    amount = OVER_FETCH if passages <= LARGE else OVER_FETCH_LARGE
    return [OPEN_FETCH, amount] if live.protection == Protection.OPEN and mask is None else [amount]


@dataclass(frozen=True)
class Fetched:
    """What the database answers: rows of passages (-1: not published), the `near` first ones by the index, the others as asked
    for; if it was asked for them, with their exact cosines.
    """

    rows: Rows
    ids: bytes  # 16 of each
    near: int
    cosines: Scores | None


def fetch(
    live: Live,
    index: TermIndex,
    query: Scores,
    amount: int,
    documents: list[UUID] | None = None,
    worded: Rows | None = None,
) -> Fetched:
    """The `amount` nearest, of these documents alone if any are given. An open index is asked for those found by words too,
    which may be none, and answers with cosines.
    """
    asked = {"index": live.id, "query": indexes.asked_form(live, query), "amount": amount, "documents": documents}
    if worded is not None:
        asked |= {"rest": indexes.rest_form(query), "worded": [passage_id(*place) for place in index.passages(worded)]}
    with binary_cursor() as cursor:
        cursor.execute(nearest(live, of_documents=documents is not None, cosines=worded is not None), asked)
        found = cursor.fetchall()
    ids = b"".join(row[0] or b"" for row in found)
    near = len(found[0][0] or b"") // 16
    if worded is None:
        return Fetched(index.rows_of(ids), ids, near, None)
    held = b"".join(cosines or b"" for _, cosines in found)
    return Fetched(index.rows_of(ids), ids, near, np.frombuffer(held, dtype=">f8").astype(np.float32))


def through_index(
    live: Live,
    index: TermIndex,
    query: Scores,
    mask: Mask | None,
    by_word: Rows,
    needed: int,
    documents: list[UUID] | None,
    stages: Stages,
) -> Candidates | None:
    """Nearest by what the database holds of the vectors, joined by what the words found; None when fewer than `needed` may
    be shown.
    """
    opened, worded = opened_of(live, index), None
    if live.protection == Protection.OPEN:
        worded = by_word if opened is None else NO_ROWS
    for amount in over_fetch(live, index.chunks, mask):
        fetched = fetch(live, index, query, amount, documents, worded)
        stages.done("candidates")
        shown = (fetched.rows >= 0) if mask is None else (fetched.rows >= 0) & mask[fetched.rows]
        if np.count_nonzero(shown[: fetched.near]) >= needed:
            rows, first = np.unique(fetched.rows[shown], return_index=True)  # what words found may be near too
            if fetched.cosines is None:
                found = Candidates(*_compared(live, index, query, np.union1d(rows, by_word), fetched, opened))
            else:
                found = Candidates(rows, fetched.cosines[shown][first])
                others = np.setdiff1d(by_word, rows)
                if opened is not None and len(others):
                    there, cosines = _compared(live, index, query, others, fetched, opened)
                    found = Candidates(np.concatenate([rows, there]), np.concatenate([found.dense, cosines]))
            stages.done("rerank")
            return found
    return None


def _compared(
    live: Live, index: TermIndex, query: Scores, rows: Rows, fetched: Fetched, opened: OpenedVectors | None
) -> tuple[Rows, Scores]:
    """Those of these rows whose vector is still there, with its exact cosine. Raises Tampered."""

    def read(wanted: Rows) -> tuple[Rows, HalfVectors]:
        known = dict(zip(fetched.rows.tolist(), (fetched.ids[i : i + 16] for i in range(0, len(fetched.ids), 16)), strict=True))
        others = np.array([row for row in wanted.tolist() if row not in known], dtype=np.int64)
        computed = [passage_id(*place) for place in index.passages(others)]
        ids = [UUID(bytes=known[row]) for row in wanted.tolist() if row in known] + computed
        found, halves = _clear(live, ids) if live.protection == Protection.OPEN else _decrypted(live, ids)
        return index.rows_of(found), halves

    if opened is not None:
        return opened.cosines(query, rows, read)
    found, halves = read(rows)
    return found, singles(halves) @ query


def _clear(live: Live, ids: list[UUID]) -> tuple[bytes, HalfVectors]:
    """Of those that are still there: their ids, 16 bytes each, and float16[n, dimension] as an open index holds them."""
    with binary_cursor() as cursor:
        cursor.execute(CLEAR, {"index": live.id, "ids": ids})
        ((found, held),) = cursor.fetchall()
    return found or b"", np.frombuffer(held or b"", dtype=">f2").astype(np.float16).reshape(-1, live.dimension)


def _decrypted(live: Live, ids: list[UUID]) -> tuple[bytes, HalfVectors]:
    """The same of encrypted vectors."""
    with binary_cursor() as cursor:
        cursor.execute(ENCRYPTED.format(passages=vectors.passages(live)), {"ids": ids, "model": live.model})
        ((found, encrypted),) = cursor.fetchall()
    return found or b"", vectors.unpacked(live, found or b"", encrypted or b"")


def _true(live: Live, stored: Iterable[tuple[UUID, bytes]]) -> Scores:
    """float32[n, dimension]."""
    return vectors.opened(live, stored).astype(np.float32)


def scan(live: Live, index: TermIndex, queries: Scores, documents: Sequence[UUID]) -> tuple[Rows, Scores]:
    """Rows of every passage of these documents and float32[rows, queries] of their cosines, a block at a time."""
    all_rows: list[Rows] = []
    all_scores: list[Scores] = []
    for block in _blocks(index, documents):
        with binary_cursor() as cursor:
            cursor.execute(
                f"SELECT id, document_id, sequence, embedding FROM {vectors.passages(live)} "  # noqa: S608  # fixed names
                "WHERE document_id = ANY(%(documents)s)",
                {"documents": block, "model": live.model},
            )
            found = cursor.fetchall()
        kept = [
            (row, chunk_id, embedding)
            for chunk_id, document_id, sequence, embedding in found
            if (row := index.row(document_id, sequence)) >= 0
        ]
        all_rows.append(np.array([row for row, _, _ in kept], dtype=np.int64))
        all_scores.append(_true(live, ((chunk_id, embedding) for _, chunk_id, embedding in kept)) @ queries.T)
    return np.concatenate(all_rows), np.concatenate(all_scores)


def compared(live: Live, index: TermIndex, query: Scores, rows: Rows) -> Candidates:
    """These passages alone with their exact cosine, a block at a time."""
    kept: list[int] = []
    dense: list[Scores] = []
    for start in range(0, len(rows), SCAN_BLOCK):
        block = rows[start : start + SCAN_BLOCK]
        row_of = dict(zip((passage_id(*place) for place in index.passages(block)), block.tolist(), strict=True))
        with binary_cursor() as cursor:
            cursor.execute(
                f"SELECT id, embedding FROM {vectors.passages(live)} WHERE id = ANY(%(ids)s)",  # noqa: S608  # fixed names
                {"ids": list(row_of), "model": live.model},
            )
            found = cursor.fetchall()
        kept += [row_of[chunk_id] for chunk_id, _ in found]
        dense.append(_true(live, found) @ query)
    return Candidates(np.array(kept, dtype=np.int64), np.concatenate(dense))


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


def recall(index: Live) -> float | None:
    """Share of the exact ten best passages that this index finds, asked half-way between passages of the workspace.

    One as good as the tenth counts, whichever it is: a workspace may hold the same text many times. None where there are too
    few passages to ask about.
    """
    terms = term_index()
    if terms.chunks <= RECALL_DEPTH:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, embedding FROM {vectors.passages(index)} "  # noqa: S608  # fixed names
            "WHERE document_id IN (SELECT document_id FROM search_terms) "
            "ORDER BY id LIMIT %(amount)s",  # their ids are digests, whose order says nothing
            {"amount": 2 * RECALL_SAMPLES, "model": index.model},
        )
        sampled = _true(index, cursor.fetchall())
    queries = sampled[: len(sampled) // 2 * 2 : 2] + sampled[1::2]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    rows, dense = scan(index, terms, queries, list(terms.places))
    place = np.zeros(rows.max() + 1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    tenth = np.partition(dense, -RECALL_DEPTH, axis=0)[-RECALL_DEPTH]
    hits = 0
    nothing = np.zeros(0, dtype=np.int64)
    for number, query in enumerate(queries):
        if index.protection == Protection.SEALED:
            found = _in_memory(index, terms, query, None, nothing, 0, Stages())
        else:
            found = through_index(index, terms, query, None, nothing, 0, None, Stages())
        assert found is not None, "none is needed"
        nearest_ten = found.rows[np.argsort(-found.dense)[:RECALL_DEPTH]]
        hits += int(np.count_nonzero(dense[place[nearest_ten], number] >= tenth[number] - AS_GOOD))
    return hits / (RECALL_DEPTH * len(queries))
