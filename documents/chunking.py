"""Pages into passages the embedding model can take whole. Knows text and a tokenizer; no model, no database.

Exact in two ways: no passage has more word pieces than the model reads, and `text == page[start:end]` for every one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

CAPACITY = 254  # the model reads 256 word pieces, two of which are its own marks
# A BERT tokenizer cuts at these blanks before anything else, so the counts of what lies between them add up exactly.
# Not \s, which has control characters that the tokenizer drops, joining the words around them.
_WORD = re.compile(r"[^ \t\n\r]+")
_HEADINGS = re.compile(r"\s*(?:#{1,6}[^\n]*(?:\n\s*|\Z))+")
_LEAST_UNDER_A_HEADING = 32  # word pieces; a heading that leaves less room stands alone
_WORDS_REMEMBERED = 1 << 16
_LONGEST_REMEMBERED = 40  # code points


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage of one page: code-point offsets into the page's text, and its length in word pieces."""

    start: int
    end: int
    text: str
    tokens: int


class Chunker:
    """Cuts at the highest border that fits (heading, paragraph, sentence, word), without overlap, the same every time."""

    def __init__(self, tokenizer: Tokenizer, capacity: int = CAPACITY) -> None:
        """`tokenizer` without truncation and padding: it is only asked to count."""
        self._tokenizer, self._capacity = tokenizer, capacity
        self._remembered = lru_cache(_WORDS_REMEMBERED)(self._encoded)
        # The splitter weighs a passage some five times; counting by remembered words makes it four times as fast.
        self._text = TextSplitter.from_callback(self.count, capacity)
        self._markdown = MarkdownSplitter.from_callback(self.count, capacity)

    def forget(self) -> None:
        """Drop the words of the texts it has cut, which would outlive the freeze or the end of their workspace."""
        self._remembered.cache_clear()

    def pieces(self, text: str, *, markdown: bool = False) -> Iterator[Piece]:
        if not markdown:
            yield from self._cut(self._text, text)
            return
        heading: Piece | None = None  # says nothing by itself: it goes with what follows it
        for piece in self._cut(self._markdown, text):
            if not _HEADINGS.fullmatch(piece.text):
                yield from self._under(heading, piece, text) if heading else (piece,)
                heading = None
            elif heading is None:
                heading = piece
            elif heading.tokens + piece.tokens <= self._capacity - _LEAST_UNDER_A_HEADING:
                both = text[heading.start : piece.end]
                heading = Piece(heading.start, piece.end, both, self.count(both))
            else:
                yield heading
                heading = piece
        if heading:
            yield heading

    def _under(self, heading: Piece, piece: Piece, text: str) -> Iterator[Piece]:
        """A heading with what follows it, or with as much of it as fits, and then the rest."""
        room = self._capacity - self.count(text[heading.start : piece.start])
        if piece.tokens <= room:
            end = piece.end
        elif room >= _LEAST_UNDER_A_HEADING:
            start, first = TextSplitter.from_callback(self.count, room).chunk_indices(piece.text)[0]
            end = piece.start + start + len(first)
        else:
            end = heading.end
        whole = text[heading.start : end]
        yield Piece(heading.start, end, whole, self.count(whole))
        yield from self._cut(self._text, text[end : piece.end], end)

    def _cut(self, splitter: TextSplitter | MarkdownSplitter, text: str, offset: int = 0) -> Iterator[Piece]:
        for start, chunk in splitter.chunk_indices(text):
            if tokens := self.count(chunk):  # what holds control characters alone says nothing to the model
                yield Piece(offset + start, offset + start + len(chunk), chunk, tokens)

    def count(self, text: str) -> int:
        """Word pieces of a text, without the model's own marks."""
        return sum([self._counted(word) for word in _WORD.findall(text)])

    def _counted(self, word: str) -> int:
        return self._remembered(word) if len(word) <= _LONGEST_REMEMBERED else self._encoded(word)

    def _encoded(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)
