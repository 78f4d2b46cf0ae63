"""Figures of retrieval quality, from ir-measures. Knows names of documents and their order, nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

NDCG_10, MRR, RECALL_10, RECALL_100 = nDCG @ 10, RR, R @ 10, R @ 100
DEPTH = 100


@dataclass(frozen=True, slots=True)
class Quality:
    """How well one question was answered, each from 0 to 1."""

    ndcg: float
    mrr: float
    recall_10: float
    recall_100: float


def quality(grades: Mapping[str, int], returned: Sequence[str]) -> Quality:
    """`grades` of the judged documents (1 or more: relevant) against the documents returned, best first."""
    qrels = [ir_measures.Qrel("q", name, grade) for name, grade in grades.items()]
    run = [ir_measures.ScoredDoc("q", name, float(DEPTH - i)) for i, name in enumerate(returned[:DEPTH])]
    if not run:
        return Quality(0.0, 0.0, 0.0, 0.0)
    figures = ir_measures.calc_aggregate([NDCG_10, MRR, RECALL_10, RECALL_100], qrels, run)
    return Quality(*(float(figures[measure]) for measure in (NDCG_10, MRR, RECALL_10, RECALL_100)))


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """{"p50", "p95"} of times; zeros when there are none."""
    if not milliseconds:
        return {"p50": 0.0, "p95": 0.0}
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
