"""One search: question in, documents out, with every score that led to their order.

Candidates (search.candidates) come from the vectors that the live index holds and from the words in memory; what decides is
exact: the cosine of decrypted vectors and BM25, fused. Knows documents and collections by id; names and texts are others'
business.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

import numpy as np

from search import embeddings, indexes, keywords, narrowing, questions, ranking, vectors
from search.candidates import Candidates, Stages, Way, gather, scan
from search.embeddings import embedder
from search.facts import Condition, FactIndex, Is
from search.indexes import Live
from search.indexing import passage_id
from search.keywords import Mask, Rows, Scores, TermIndex
from search.languages import ENGLISH
from search.loaded import facts_of, terms_of
from search.models import Chunk
from search.ranking import Mode
from tenants.context import current_tenant

TELLING_WORDS = 12  # of a passage, when it is the question


class Hit(NamedTuple):
    """A document at its best passage. Ranks count among the candidates; 0: that leg did not find the passage."""

    document_id: UUID
    sequence: int
    rank: int
    score: float
    dense: float
    keyword: float
    dense_rank: int
    keyword_rank: int
    more: int = 0  # other passages of the document among the candidates
    language: str = ENGLISH  # by whose stems its words were found
    length: int = 0  # words of the passage, function words left out

    @property
    def chunk_id(self) -> UUID:
        return passage_id(self.document_id, self.sequence)


@dataclass(frozen=True)
class Results:
    """Documents, best first. `way` says whether the candidates came through the index or from an exact scan."""

    hits: list[Hit]
    searched: int  # passages that could have been found
    way: Way
    milliseconds: dict[str, float] = field(default_factory=dict)
    unread: int = 0  # passages left out because they were not read for a phrase: enough others were
    # Of each group of fields asked for, its values with the number of documents that have them, among all that may be found:
    # in the collections, meeting the conditions but that on these fields, with a passage that the question's phrases and
    # exclusions let through and that, by words only, has one of its words. The most frequent first.
    facets: tuple[tuple[tuple[str, int], ...], ...] = ()


@dataclass(frozen=True)
class Alike:
    """What was found like a passage, and the words of it that were looked for."""

    words: tuple[str, ...]
    results: Results


class PassageNotFound(LookupError):
    """No published passage of these collections has this id."""


def search(
    text: str,
    *,
    collections: Collection[UUID],
    limit: int = 100,
    mode: Mode = Mode.HYBRID,
    exact: bool = False,
    conditions: Sequence[Condition] = (),
    facets: Sequence[Collection[UUID]] = (),
) -> Results:
    """The best `limit` documents of these collections for a question; of other documents nothing is counted or returned.

    `text` may hold the operators of search.questions; without anything to look for nothing is found. `exact` decrypts and
    compares every passage instead of asking the vector index. Documents that do not meet all `conditions` do not exist for it.
    `facets` are groups of fields whose values are counted.
    """
    if exact and mode is not Mode.WORDS:  # which compares no vector
        return search_exactly([text], collections=collections, limit=limit, mode=mode, conditions=conditions)[0]
    stages = Stages()
    live = indexes.live()
    index = terms_of(live)
    stages.done("pool")
    searched = index.amount(collections)
    question = questions.parse(text)
    if not searched or not question.says_what:
        return Results([], searched, "exact", stages.milliseconds)
    query = None if mode is Mode.WORDS else _embedded(question.text, live)
    stages.done("embed")
    scores = index.scores(index.asked(question.text))
    stages.done("keyword")
    allowed, unread = None, 0
    if conditions:
        allowed = _meeting(facts_of(live), index, conditions, index.matching(collections))
        stages.done("filter")
    if question.narrows:
        mask = index.matching(collections) if allowed is None else allowed
        allowed, unread = narrowing.admitted(index, question, mask, scores)
        stages.done("narrow")
    results = _found(live, index, query, scores, allowed, collections, limit, mode, stages)
    if not facets:
        return replace(results, unread=unread)
    facts, counted = facts_of(live), []
    for fields in facets:
        others = [met for met in conditions if not isinstance(met, Is) or met.fields != fields]
        passing = index.matching(collections) if allowed is None else allowed
        if len(others) < len(conditions):  # its own condition does not count: what else could be chosen is told
            passing = _meeting(facts, index, others, index.matching(collections))
            if question.narrows:
                passing, _ = narrowing.admitted(index, question, passing, scores)
        if mode is Mode.WORDS:
            passing = scores > 0 if passing is None else passing & (scores > 0)
        counted.append(tuple(facts.amounts(fields, facts.documents(index, passing))))
    stages.done("facets")
    return replace(results, unread=unread, facets=tuple(counted))


def _meeting(facts: FactIndex, index: TermIndex, conditions: Sequence[Condition], mask: Mask | None) -> Mask:
    """bool[rows]: the passages of `mask` (None: every row) whose document meets all conditions."""
    meeting = facts.rows(index, facts.matching(conditions))
    return meeting if mask is None else meeting & mask


def like(chunk_id: UUID, *, collections: Collection[UUID], limit: int = 100) -> Alike:
    """What is like a published passage of these collections: near its own vector, and with the words that tell it apart.

    Raises PassageNotFound, also for a passage that exists elsewhere.
    """
    stages = Stages()
    live = indexes.live()
    index = terms_of(live)
    mask = index.matching(collections)
    passage = Chunk.objects.filter(pk=chunk_id).first()
    row = index.row(passage.document_id, passage.sequence) if passage else -1
    if passage is None or row < 0 or (mask is not None and not mask[row]):
        raise PassageNotFound
    words = index.telling(passage.text, TELLING_WORDS, index.language(passage.document_id))
    query = vectors.opened(live, vectors.stored(live, [chunk_id]).items())[0].astype(np.float32)
    stages.done("passage")
    scores = index.scores(index.asked(" ".join(words)))
    others = np.ones(index.rows, dtype=np.bool_) if mask is None else mask.copy()
    others[row] = False
    results = _found(live, index, query, scores, others, collections, limit, Mode.HYBRID, stages)
    return Alike(tuple(words), results)


def search_exactly(
    texts: Sequence[str],
    *,
    collections: Collection[UUID],
    limit: int = 100,
    mode: Mode = Mode.HYBRID,
    conditions: Sequence[Condition] = (),
) -> list[Results]:
    """The same ranking with every passage as a candidate; several questions share one pass over the vectors."""
    live = indexes.live()
    index = terms_of(live)
    mask = index.matching(collections)
    searched = index.amount(collections)
    if not searched or not texts:
        return [Results([], searched, "exact") for _ in texts]
    asked = [questions.parse(text) for text in texts]
    queries = np.stack([_embedded(question.text, live) for question in asked])
    rows, dense = scan(live, index, queries, index.documents(collections))
    if conditions:
        mask = _meeting(facts_of(live), index, conditions, mask)
        rows, dense = rows[mask[rows]], dense[mask[rows]]
    found = []
    for column, question in enumerate(asked):
        scores = index.scores(index.asked(question.text))
        candidates, passing, unread = Candidates(rows, dense[:, column]), mask, 0
        if question.narrows:
            passing, unread = narrowing.admitted(index, question, mask, scores)
            candidates = Candidates(rows[passing[rows]], dense[passing[rows], column])
        by_word = _by_word(scores, passing, mode)
        hits = _ranked(index, candidates, by_word, scores, limit, mode) if question.says_what else []
        found.append(Results(hits, searched, "exact", unread=unread))
    return found


def _by_word(scores: Scores, mask: Mask | None, mode: Mode) -> Rows:
    if mode is Mode.MEANING:
        return np.zeros(0, dtype=np.int64)
    return keywords.best(scores, ranking.WINDOW, mask)


def _found(
    live: Live,
    index: TermIndex,
    query: Scores | None,
    scores: Scores,
    allowed: Mask | None,
    collections: Collection[UUID],
    limit: int,
    mode: Mode,
    stages: Stages,
) -> Results:
    """The best of what is `allowed` (None: all of these collections). Without a query the words alone find and rank."""
    searched = index.amount(collections)
    mask = index.matching(collections) if allowed is None else allowed
    matching = searched if allowed is None else int(np.count_nonzero(allowed))
    by_word = _by_word(scores, mask, mode)
    stages.done("keyword")
    candidates, way = gather(
        live, index, query, mask, by_word, collections, matching=matching, narrowed=allowed is not None, stages=stages
    )
    hits = _ranked(index, candidates, by_word, scores, limit, mode)
    stages.done("rank")
    return Results(hits, searched, way, stages.milliseconds)


def forget_questions(tenant_id: UUID) -> None:
    """Drop a workspace's cached questions; what is measured must not come from a cache."""
    embeddings.forget_queries(tenant_id.bytes)


def _embedded(text: str, live: Live) -> Scores:
    return embedder(live.model).embed_query(text, current_tenant().id.bytes)


def _ranked(index: TermIndex, candidates: Candidates, by_word: Rows, scores: Scores, limit: int, mode: Mode) -> list[Hit]:
    """Fuse both legs over the union of their windows and keep each document's best passage."""
    rows, dense = candidates.rows, candidates.dense
    window = np.argsort(-dense, kind="stable")[: ranking.WINDOW]
    chosen = np.zeros(index.rows, dtype=np.bool_)
    chosen[rows[window]] = True
    chosen[by_word] = True
    union = chosen[rows]
    rows, dense = rows[union], dense[union]
    keyword = scores[rows]
    fused = ranking.fused(dense, keyword, mode.alpha)
    dense_ranks, keyword_ranks = ranking.ranks(dense), ranking.ranks(keyword)
    numbers, sequences = index.owned(rows)
    passages_of = Counter(numbers)
    order = ranking.best_per_key(numbers, fused)[:limit]
    owners = index.owners[0]
    columns = (fused, dense, keyword, dense_ranks, keyword_ranks)
    kept = zip(order, index.lengths(rows[order]).tolist(), *(column[order].tolist() for column in columns), strict=True)
    hits = []
    for rank, (i, length, score, cosine, bm25, dense_rank, keyword_rank) in enumerate(kept, start=1):
        document = owners[numbers[i]]
        hits.append(
            Hit(
                document_id=document,
                sequence=sequences[i],
                rank=rank,
                score=score,
                dense=cosine,
                keyword=bm25,
                dense_rank=dense_rank if mode is not Mode.WORDS else 0,
                keyword_rank=keyword_rank if bm25 > 0 else 0,
                more=passages_of[numbers[i]] - 1,
                language=index.language(document),
                length=length,
            )
        )
    return hits
