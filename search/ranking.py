"""Fuses the two legs of a search into one order of passages, then of documents.

Refuses to know where scores come from: arrays in, order out.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

# Weight of the meaning leg against the word leg. With z-scores over the union of both top-100 windows 0.6 was best on
# the mean of SciFact, Cranfield, CISI, MED and NPL, and better than either leg on each.
ALPHA = 0.6
WINDOW = 100

Scores = npt.NDArray[np.float32]
Key = TypeVar("Key")


class Mode(StrEnum):
    """What decides the order."""

    HYBRID = "hybrid"
    MEANING = "meaning"
    WORDS = "words"

    @property
    def alpha(self) -> float:
        """The weight of the meaning leg."""
        return {Mode.HYBRID: ALPHA, Mode.MEANING: 1.0, Mode.WORDS: 0.0}[self]


def standardised(scores: Scores) -> Scores:
    """z-scores: zero mean, unit deviation; all zero when nothing tells the values apart."""
    if not len(scores):
        return scores
    deviation = float(scores.std())
    if deviation < 1e-6:
        return np.zeros_like(scores)
    return ((scores - scores.mean()) / deviation).astype(np.float32)


def fused(dense: Scores, keyword: Scores, alpha: float = ALPHA) -> Scores:
    """float32[n]: convex combination of the z-scores of both legs, each given for every passage of the union."""
    return (alpha * standardised(dense) + (1 - alpha) * standardised(keyword)).astype(np.float32)


def ranks(scores: Scores) -> npt.NDArray[np.int64]:
    """int[n]: 1 for the highest; equal scores share the better rank."""
    ordered = np.sort(scores)
    return len(scores) - np.searchsorted(ordered, scores, side="right") + 1


def best_per_key(keys: Sequence[Key], scores: Scores) -> list[int]:
    """Positions of the best-scoring item of each key, best first; ties go to the earlier position."""
    seen: set[Key] = set()
    chosen = []
    for position in np.argsort(-scores, kind="stable").tolist():
        if keys[position] not in seen:
            seen.add(keys[position])
            chosen.append(position)
    return chosen
