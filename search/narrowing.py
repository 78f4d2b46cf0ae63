"""Which passages may answer a question, before any are ranked: its phrases stand in them, what it excludes does not.

The postings know words by their stems. Whether words follow each other only the text says: passages with all words of a
phrase are decrypted and read, a block at a time, those that score best first. What was not read is never let through.
"""

import functools
import re
from dataclasses import replace
from uuid import UUID

import numpy as np
import numpy.typing as npt

from search import questions
from search.indexing import passage_id
from search.keywords import Mask, Scores, TermIndex
from search.models import Chunk
from search.questions import Phrase, Question
from tenants.database import connection

Rows = npt.NDArray[np.int64]

BLOCK = 512  # passages read at a time
ENOUGH = 300  # documents found to pass after which no more are read: three times what a search lists
AT_MOST = 20_000  # passages read, at 30 µs each


def admitted(index: TermIndex, question: Question, mask: Mask | None, scores: Scores) -> tuple[Mask, int]:
    """bool[rows], the passages of `mask` (None: every row) that the question lets through, and how many were left unread."""
    passing = np.ones(index.rows, dtype=np.bool_) if mask is None else mask.copy()
    for word in question.excluded_words:
        passing &= ~index.having(word)
    question = _with_left_out(index, question)
    if question.phrases:
        for phrase in question.phrases:
            passing &= _with_all_words(index, phrase)
        suspects = passing.copy()
    else:
        suspects = np.zeros(index.rows, dtype=np.bool_)
        for phrase in question.excluded_phrases:
            suspects |= passing & _with_all_words(index, phrase)
    passing &= ~suspects
    rows = np.flatnonzero(suspects)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    passed, unread = _read(index, question, rows)
    passing[passed] = True
    return passing, unread


def _with_left_out(index: TermIndex, question: Question) -> Question:
    """What is excluded and left out of the postings of a language here is looked for in the text, as a phrase of one word."""
    unseen = tuple((word,) for word in question.excluded_words if index.leaves_out(word))
    return replace(question, excluded_phrases=question.excluded_phrases + unseen) if unseen else question


def _with_all_words(index: TermIndex, phrase: Phrase) -> Mask:
    """Passages that may hold a phrase. Function words are in no posting: a phrase of nothing else may stand anywhere."""
    return functools.reduce(np.logical_and, map(index.may_have, set(phrase)), np.ones(index.rows, dtype=np.bool_))


def _read(index: TermIndex, question: Question, rows: Rows) -> tuple[list[int], int]:
    """Those of the rows whose text passes, read in the order given until there are enough, and how many were not read."""
    passed: list[int] = []
    documents: set[UUID] = set()
    open_text = Chunk._meta.get_field("text").reader()
    roughly = {phrase: _roughly(phrase) for phrase in (*question.phrases, *question.excluded_phrases)}
    start = 0
    while start < min(len(rows), AT_MOST) and len(documents) < ENOUGH:
        block = rows[start : start + BLOCK]
        start += len(block)
        places = index.passages(block)
        ids = [passage_id(*place) for place in places]
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, text FROM search_chunk WHERE id = ANY(%s)", [ids])
            sealed = dict(cursor.fetchall())
        for row, (document_id, _), chunk_id in zip(block.tolist(), places, ids, strict=True):
            if chunk_id in sealed and _passes(question, roughly, open_text(chunk_id, sealed[chunk_id])):
                passed.append(row)
                documents.add(document_id)
    return passed, len(rows) - start


def _passes(question: Question, roughly: dict[Phrase, re.Pattern[str]], text: str) -> bool:
    near = text.casefold()
    if not all(roughly[phrase].search(near) for phrase in question.phrases):
        return False
    suspected = [phrase for phrase in question.excluded_phrases if roughly[phrase].search(near)]
    words = questions.folded(text)
    wanted = all(questions.stands_in(phrase, words) for phrase in question.phrases)
    return wanted and not any(questions.stands_in(phrase, words) for phrase in suspected)


def _roughly(phrase: Phrase) -> re.Pattern[str]:
    """Found in every folded text in which the phrase stands, and in few others: taking words apart costs four times as much.

    U+0345, which is no letter, becomes the letter iota when its case is folded: of all signs it alone.
    """
    return re.compile(r"[\W_ι]+".join(map(re.escape, phrase)))
