"""Passages: never longer than the model reads, always exactly a piece of the page, the same every time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from documents.chunking import CAPACITY, Chunker

words = st.sampled_from(
    ["alpha", "naïve", "Größe", "数据", "🙂", "a" * 400, "x_y", "#", "##", "-", "|", "`code`", "1.", "\u0301"]
)
gaps = st.sampled_from([" ", "\n", "\n\n", ". ", "\t", "\n# ", "\n- ", "  \n", ""])
headings = st.integers(1, 260).map(lambda words: "# " + "heading " * words)
parts = st.one_of(headings, st.integers(1, 300).map(lambda words: "words " * words))
texts = st.one_of(
    st.text(max_size=2000),
    st.lists(parts, max_size=12).map("\n\n".join),
    st.lists(st.tuples(words, gaps), max_size=600).map(lambda pairs: "".join(word + gap for word, gap in pairs)),
)


@pytest.fixture(scope="module")
def chunker(tokenizer: Tokenizer) -> Chunker:
    return Chunker(tokenizer)


@settings(max_examples=150, deadline=None)
@given(text=texts, markdown=st.booleans())
def test_passages_are_exact(chunker: Chunker, text: str, markdown: bool) -> None:
    position = 0
    for piece in chunker.pieces(text, markdown=markdown):
        assert piece.text == text[piece.start : piece.end]
        assert 0 < piece.tokens <= CAPACITY
        assert piece.tokens == chunker.count(piece.text)
        assert chunker.count(text[position : piece.start]) == 0, "words between two passages"
        assert piece.start >= position, "passages overlap"
        position = piece.end
    assert chunker.count(text[position:]) == 0, "words after the last passage"


@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_words_are_counted_as_the_tokenizer_counts_the_whole(chunker: Chunker, tokenizer: Tokenizer, text: str) -> None:
    assert chunker.count(text) == len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_the_same_text_gives_the_same_passages(chunker: Chunker, tokenizer: Tokenizer) -> None:
    text = "A sentence with some words in it. " * 300
    assert list(chunker.pieces(text)) == list(Chunker(tokenizer).pieces(text))


def test_offsets_count_code_points(chunker: Chunker) -> None:
    text = "🙂 Größe. " * 400
    pieces = list(chunker.pieces(text))
    assert len(pieces) > 3
    assert all(text[piece.start : piece.end] == piece.text for piece in pieces)


def test_markdown_is_cut_at_headings(chunker: Chunker) -> None:
    text = "\n\n".join(f"## Section {n}\n\n" + "Words of the section. " * 45 for n in range(5))
    assert all(piece.text.startswith("## Section") for piece in chunker.pieces(text, markdown=True))


def test_a_heading_never_stands_alone(chunker: Chunker) -> None:
    text = "\n\n".join(f"# Chapter {n}\n\n## Section\n\n" + "Words of a long section. " * 120 for n in range(3))
    pieces = list(chunker.pieces(text, markdown=True))
    assert len(pieces) > 6
    assert all("Words of a long section." in piece.text for piece in pieces)
    assert list(chunker.pieces("# A heading and nothing else\n", markdown=True))
    assert list(chunker.pieces("# Long " * 200 + "\n\nText. " * 200, markdown=True))
